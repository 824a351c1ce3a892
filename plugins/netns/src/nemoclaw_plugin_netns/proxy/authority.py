"""The certificate authority of one sandbox. Its key lives in this process, and dies with it.

The agent trusts it because the core puts its certificate into the sandbox. It can sign for any
name: whoever had its key could pose as any server, but only towards this agent. The key is never
written anywhere; the leaves' one goes through a memfd(2): :mod:`ssl` takes keys from files only.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections import OrderedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=30)
"""Of every leaf. A sandbox that lives longer gets new leaves."""
_SKEW = datetime.timedelta(hours=1)
_PEM = serialization.Encoding.PEM


class Authority:
    """Makes server contexts for names that the agent dials. For one thread.

    :param sandbox: its name, to tell authorities apart in a list of certificates.
    :param leaves: contexts kept; the one that was used the longest ago goes first.
    """

    def __init__(
        self, sandbox: str = "", leaves: int = 256, life: datetime.timedelta = _LIFE
    ) -> None:
        self._limit = leaves
        self._life = life
        self._key = ec.generate_private_key(ec.SECP256R1())
        # One key for every leaf: they all live here, and a key for each would guard nothing more.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._leaf_pem = self._leaf_key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._contexts: OrderedDict[tuple[str, str], tuple[float, ssl.SSLContext]] = OrderedDict()
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nemoclaw"),
                x509.NameAttribute(
                    NameOID.COMMON_NAME, f"nemoclaw sandbox {sandbox}".rstrip()[:64]
                ),
            ]
        )
        self._certificate = self._issue()
        self.ca_certificate: bytes = self._certificate.public_bytes(_PEM)
        """PEM. What the agent has to trust."""

    def context(self, name: str, protocol: str = "http/1.1") -> ssl.SSLContext:
        """A server context with a certificate for exactly one DNS name or literal address.

        :param protocol: the only one on offer (RFC 7301).
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        found = self._contexts.get((name, protocol))
        if found is not None and found[0] > now.timestamp():
            self._contexts.move_to_end((name, protocol))
            return found[1]
        leaf = self._leaf(name, now)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols([protocol])
        _load(context, leaf.public_bytes(_PEM), self._leaf_pem)
        until = leaf.not_valid_after_utc.timestamp() - 3600
        self._contexts[name, protocol] = (until, context)
        self._contexts.move_to_end((name, protocol))
        while len(self._contexts) > self._limit:
            self._contexts.popitem(last=False)
        return context

    def _issue(self) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        public = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            # Longer than any sandbox: the agent's copy cannot be renewed while it runs.
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _leaf(self, name: str, now: datetime.datetime) -> x509.Certificate:
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            alternative = x509.DNSName(name)
        # The subject is empty, so the alternative name has to be critical (RFC 5280 4.2.1.6). A
        # common name may have 64 characters only, and nobody looks at it.
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + self._life)
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )


def upstream_context(extra_ca: str = "", *, http2: bool = False) -> ssl.SSLContext:
    """What outside servers are verified with: the system's store, and more if a setting says so.

    :param extra_ca: PEM of further authorities, such as a company's own. Empty: none.
    :param http2: whether a server may choose it.
    :raises ssl.SSLError: it holds no certificate.
    """
    context = ssl.create_default_context()
    if extra_ca:
        context.load_verify_locations(cadata=extra_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    return context


def _load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    descriptor = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, certificate + key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
