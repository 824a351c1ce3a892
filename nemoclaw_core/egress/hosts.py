"""One spelling for each host, so that what is matched is what is dialled.

Agents, proxies, resolvers and TLS stacks read host names differently: ``127.1``, ``0x7f.1``,
``EXAMPLE.com.``, ``[::ffff:10.0.0.1]``. Here each is either brought into one form or refused; two
spellings of one host never give two answers, and nothing is guessed.

Names: RFC 1123 section 2.1, with the underscore that real names have; IDNA per RFC 5891, of which
the older RFC 3490 is in the standard library: what the two read differently is refused. Numbers:
inet_aton(3) and the URL standard's host parser (https://url.spec.whatwg.org/#host-parsing).
"""

from __future__ import annotations

import re
from _socket import AF_INET6, inet_ntop, inet_pton

import attrs

LONGEST = 253
"""Bytes of the longest name, without the last dot (RFC 1035 section 2.3.4)."""
_LONGEST_TEXT = 1024
"""Characters that are looked at at all."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_DOTTED = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", re.ASCII)
_MAPPED = bytes(10) + b"\xff\xff"
_DEVIATIONS = frozenset("\u00df\u03c2\u200c\u200d")
"""RFC 3490 drops or replaces these, RFC 5891 keeps them: they lead to different servers."""

_LETTERS = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
"""Unicode's general categories of what a label may hold beyond ASCII."""


class NotAHost(ValueError):
    """A text is not a host that everybody reads alike. Its message is a clause without the text."""


@attrs.frozen(slots=True)
class Host:
    """A host in its one spelling."""

    text: str
    """A name in lower case and ASCII without a last dot, or an address as inet_ntop(3) has it,
    without brackets."""
    packed: bytes = b""
    """An address as 4 or 16 bytes in network order. Empty: it is a name."""

    @property
    def is_address(self) -> bool:
        """Whether it is an address, and nothing has to be looked up."""
        return bool(self.packed)

    def __str__(self) -> str:
        return self.text


def canonical(text: str) -> Host:
    """The host that ``text`` means to everybody.

    Takes a name in any case, with or without a last dot, in Unicode or in its ``xn--`` form; an
    IPv4 address in any spelling of inet_aton(3); an IPv6 address with or without brackets. An IPv6
    address that stands for an IPv4 address (``::ffff:0:0/96``) becomes that one.

    :raises NotAHost: anything else, and what can be read in more than one way.
    """
    if len(text) <= LONGEST and _NAME.fullmatch(text) and not _ends_in_number(text):
        return Host(text) if "xn--" not in text else _checked(text)
    return _unusual(text)


def _unusual(text: str) -> Host:
    if not text:
        raise NotAHost("it is empty")
    if len(text) > _LONGEST_TEXT:
        raise NotAHost("it is too long")
    for each in text:
        if each <= " " or each == "\x7f" or (each > "\x7f" and not each.isprintable()):
            raise NotAHost("it holds a space, or a character that cannot be seen")
    if "@" in text:
        raise NotAHost("it holds a user name")
    if "%" in text:
        raise NotAHost("it holds a percent sign: an escape, or the zone of an address")
    if text.startswith("[") or text.count(":") > 1:
        return _ipv6(text)
    if ":" in text:
        raise NotAHost("it holds a port")
    if not text.isascii():
        text = ".".join(_to_ascii(label) for label in text.split("."))
    text = text.lower()
    text = text[:-1] if text.endswith(".") else text
    if _ends_in_number(text):
        return Host(*_ipv4(text))
    if len(text) > LONGEST:
        raise NotAHost(f"it is longer than {LONGEST} bytes")
    if not _NAME.fullmatch(text):
        if "" in text.split("."):
            raise NotAHost("it holds an empty label")
        raise NotAHost("a label of it is too long, or holds what no host name holds")
    return _checked(text)


def _ends_in_number(text: str) -> bool:
    """Whether resolvers and browsers read it as an IPv4 address, or at least try to."""
    if text[-1:] > "f" and not text.endswith("x"):
        return False
    return _NUMBER.fullmatch(text, text.rfind(".") + 1) is not None


def _ipv4(text: str) -> tuple[str, bytes]:
    if _DOTTED.fullmatch(text):
        numbers = [int(part) for part in text.split(".")]
    else:
        numbers = [_number(part) for part in text.split(".")]
    if not 1 <= len(numbers) <= 4:
        raise NotAHost("it looks like an IPv4 address and has more than four parts")
    *heads, last = numbers
    if any(head > 255 for head in heads) or last >= 256 ** (4 - len(heads)):
        raise NotAHost("it looks like an IPv4 address, and a part of it is too large")
    value = last
    for at, head in enumerate(heads):
        value |= head << (24 - 8 * at)
    packed = value.to_bytes(4, "big")
    return ".".join(map(str, packed)), packed


def _number(part: str) -> int:
    """A part of an IPv4 address: decimal, octal with 0, hexadecimal with 0x."""
    try:
        if not _NUMBER.fullmatch(part):  # int() takes signs and underscores too
            raise ValueError
        if part.startswith("0"):
            return int(part[2:], 16) if part.startswith("0x") else int(part, 8)
        # Longer than any 32-bit number, and int() refuses thousands of digits.
        return int(part) if len(part) <= 10 else 1 << 32
    except ValueError:
        raise NotAHost("it ends like an IPv4 address and is none") from None


def _ipv6(text: str) -> Host:
    if text.startswith("["):
        if not text.endswith("]"):
            raise NotAHost("it begins like an IPv6 address in brackets and is none")
        text = text[1:-1]
    try:
        packed = inet_pton(AF_INET6, text)
    except (OSError, ValueError):  # ValueError: a lone surrogate
        raise NotAHost("it looks like an IPv6 address and is none") from None
    if packed.startswith(_MAPPED):
        packed = packed[12:]
        return Host(".".join(map(str, packed)), packed)
    return Host(inet_ntop(AF_INET6, packed), packed)


def _to_ascii(label: str) -> str:
    """A label that may hold Unicode, as its A-label (RFC 5890 section 2.3.2.1).

    The standard library maps before it encodes: ``\u2100`` becomes ``a/c``. Only letters, marks and
    digits are taken (near to what RFC 5892 permits), and only what mapping leaves alone but for
    its case.
    """
    if label.isascii():
        return label
    from encodings import idna
    from unicodedata import category, normalize

    if not _DEVIATIONS.isdisjoint(label):
        raise NotAHost("it holds a letter that old and new IDNA read differently: write xn--")
    if label[:4].lower() == "xn--":
        raise NotAHost("a label is in the xn-- form and holds more than ASCII")
    folded = normalize("NFC", label.lower())
    # The sign of the unit Kelvin is a K in lower case.
    if folded.isascii() or any(each > "\x7f" and category(each) not in _LETTERS for each in folded):
        raise NotAHost("it holds characters that no host name holds")
    try:
        if idna.nameprep(label) != folded:
            raise NotAHost("it holds characters that would have to be replaced: write xn--")
        encoded: bytes = idna.ToASCII(folded)
    except UnicodeError:
        raise NotAHost("it holds characters that no host name holds") from None
    return encoded.decode("ascii")


def _checked(text: str) -> Host:
    """A name, each ``xn--`` label of which is the one spelling of something (RFC 5891, 4.2.1)."""
    for label in text.split("."):
        if not label.startswith("xn--"):
            continue
        tail = label[4:]
        try:
            plain = tail.encode().decode("punycode")
            again = plain.encode("punycode").decode()
        except (UnicodeError, ValueError, OverflowError):
            raise NotAHost("an xn-- label of it cannot be decoded") from None
        if again != tail or plain.isascii() or not plain.isprintable():
            raise NotAHost("an xn-- label of it is not the one spelling of anything")
    return Host(text)
