"""A token service on loopback, which Debian's docker-registry believes."""

import base64
import http.server
import json
import os
import ssl
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from tests.support.registry import PASSWORD, USER

IDENTITY = "the-token-that-replaces-a-password"


class Issuer(http.server.ThreadingHTTPServer):
    """A token service (distribution spec/auth/token.md): gives a token of what was asked to who knows the password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _IssuerHandler)
        self.key, self.certificate = f"{folder}/key.pem", f"{folder}/cert.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=issuer"]
        subprocess.run([*command, "-keyout", self.key, "-out", self.certificate], check=True, capture_output=True)
        self.asked: list[dict[str, list[str]]] = []
        self.askers: list[str] = []  # who asked, by their User-Agent
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def settings(self) -> dict[str, Any]:
        """What a registry is told that believes it."""
        realm = f"http://127.0.0.1:{self.server_address[1]}/token"
        return {"realm": realm, "service": "registry", "issuer": "moles", "rootcertbundle": self.certificate}

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def token(self, scopes: list[str]) -> str:
        """One that opens these."""
        with open(self.certificate, encoding="ascii") as file:
            certificate = base64.b64encode(ssl.PEM_cert_to_DER_cert(file.read())).decode()
        access: list[dict[str, Any]] = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "moles", "sub": USER, "aud": "registry", "exp": now + 60, "nbf": now - 5, "iat": now}
        parts = [_base64url({"typ": "JWT", "alg": "RS256", "x5c": [certificate]})]
        parts.append(_base64url({**claims, "jti": os.urandom(8).hex(), "access": access}))
        signed = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=".".join(parts).encode(),
            capture_output=True,
            check=True,
        ).stdout
        return ".".join([*parts, base64.urlsafe_b64encode(signed).decode().rstrip("=")])


def _base64url(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


class _IssuerHandler(http.server.BaseHTTPRequestHandler):
    server: Issuer

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self._answer(query, query.get("scope", []), known=self.headers.get("Authorization") == wanted)

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        known = form.get("refresh_token") == [IDENTITY]
        if form["grant_type"] == ["password"]:
            known = (form["username"], form["password"]) == ([USER], [PASSWORD])
        self._answer(form, form.get("scope", [""])[0].split(), known=known)

    def _answer(self, query: dict[str, list[str]], scopes: list[str], *, known: bool) -> None:
        self.server.asked.append(query)
        self.server.askers.append(self.headers.get("User-Agent", ""))
        given = {"token": self.server.token(scopes)} if known else {}
        given |= {"access_token": given["token"]} if known else {}
        if known and query.get("offline_token") == ["true"]:
            given["refresh_token"] = IDENTITY
        body = json.dumps(given).encode()
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        del format, args
