"""An authority of the test's own, and certificates that it signs (openssl)."""

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority in a folder: `certificate` is what others must trust."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.certificate = f"{folder}/ca.key", f"{folder}/ca.crt"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=moles authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-keyout", self.key, "-out", self.certificate),
        )

    def sign(self, name: str, *, alternative: str = "") -> tuple[str, str]:
        """(certificate, key) for a name; `alternative` as in subjectAltName."""
        key, request, signed = f"{self.folder}/{name}.key", f"{self.folder}/{name}.csr", f"{self.folder}/{name}.pem"
        _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        extensions = f"{self.folder}/{name}.ext"
        Path(extensions).write_text(f"subjectAltName={alternative}\n" if alternative else "basicConstraints=CA:FALSE\n")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial"),
            *("-days", "2", "-extfile", extensions, "-out", signed),
        )
        return signed, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
