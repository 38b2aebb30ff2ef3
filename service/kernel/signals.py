"""Signal names and numbers (signal(7)), without the `signal` module: its enums cost a cold process 3 ms."""

from service.errors import InvalidParameter

_NUMBERS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
    "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17, "CONT": 18,
    "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27,
    "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31, "RTMIN": 34, "RTMAX": 64,
}  # fmt: skip
KILL, TERM = 9, 15


def signal_number(name: str) -> int:
    """The number of "SIGKILL", "kill" or "9". Raises InvalidParameter in dockerd's words."""
    if name.isdigit():
        number = int(name)
        if 0 < number <= 64:
            return number
        raise InvalidParameter(f"invalid signal: {name}")
    word = name.upper().removeprefix("SIG")
    if word in _NUMBERS:
        return _NUMBERS[word]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        if word.startswith(base) and word[6:].isdigit():
            number = _NUMBERS[base[:5]] + sign * int(word[6:])
            if 34 <= number <= 64:
                return number
    raise InvalidParameter(f"invalid signal: {name}")
