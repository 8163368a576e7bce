"""Who made a package: signed with OpenSSF's model-signing and this project's own key.

The same key signs verdicts and the ledger's entries. It is made at first use, in .tidemill/keys.
Another machine needs the public half alone: TIDEMILL_PUBLIC_KEY names its file.
"""

import base64
import binascii
import os
from functools import lru_cache
from pathlib import Path

from tidemill.package.allowed_files import SIGNATURE
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import locked, write


def key() -> Path:
    """The private key, on NIST's curve P-256; made where there is none, for its owner alone."""
    path = paths.state("keys", "signing.key")
    with locked(paths.state("locks", "signing")):
        if not path.is_file():
            _make(path)
    return path


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pair = ec.generate_private_key(ec.SECP256R1())
    public_pem = pair.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private_pem = pair.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write(path.with_suffix(".pub"), public_pem)
    old = os.umask(0o077)
    try:
        write(path, private_pem)
    finally:
        os.umask(old)
    path.chmod(0o600)


def public_key() -> Path:
    """The file of the public key that packages, verdicts and the ledger are checked with."""
    given = os.environ.get("TIDEMILL_PUBLIC_KEY")
    return Path(given) if given else paths.state("keys", "signing.pub")


def signature(text: str) -> str:
    """A signature of a text by this project's key, in base64 (ECDSA over SHA-256).

    Raises `Fault` where this machine's private key is not the one that is checked with.
    """
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = key()
    private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    made = base64.b64encode(private.sign(text.encode(), ec.ECDSA(hashes.SHA256()))).decode()
    if not valid(text, made):
        raise Fault(
            f"this machine signs with another key than {public_key()}, by which it is checked; "
            f"copy .tidemill/keys of the machine that keeps the ledger here"
        )
    return made


def valid(text: str, signed: str) -> bool:
    """Whether a text was signed so by this project's key. Raises `Fault` without a public key."""
    path = public_key()
    if not path.is_file():
        raise Fault(
            f"a signature cannot be checked: there is no public key at {path}; copy "
            f"keys/signing.pub of the machine that made it there, or name it in "
            f"TIDEMILL_PUBLIC_KEY"
        )
    return _valid(path.read_bytes(), text, signed)


@lru_cache(maxsize=4096)  # a server checks the same ledger every few seconds
def _valid(public_pem: bytes, text: str, signed: str) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        public = serialization.load_pem_public_key(public_pem)
        if not isinstance(public, ec.EllipticCurvePublicKey):
            return False
        signature_bytes = base64.b64decode(signed, validate=True)
        public.verify(signature_bytes, text.encode(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True


def sign(package: Path) -> None:
    """Write the package's signature into it."""
    from model_signing import hashing, signing

    signature = package / SIGNATURE
    signature.unlink(missing_ok=True)
    part = package.parent / f".{package.name}.{SIGNATURE}.part"
    signing.Config().use_elliptic_key_signer(private_key=key()).set_hashing_config(
        hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
    ).sign(package, part)
    part.replace(signature)


def check(package: Path, name: str) -> None:
    """Raise `Fault` where the package was not signed with this key, or was changed since."""
    from model_signing import hashing, verifying

    public = public_key()
    signature_file = package / SIGNATURE
    if not signature_file.is_file():
        raise Fault(f"{name} is not signed; retrain it, or roll back to a version that is")
    if not public.is_file():
        raise Fault(
            f"{name} cannot be checked: there is no public key at {public}; copy "
            f"keys/signing.pub of the machine that made it there, or name it in "
            f"TIDEMILL_PUBLIC_KEY"
        )
    ignored = hashing.Config().set_ignored_paths(paths=[signature_file], ignore_git_paths=False)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    try:
        verifier.set_hashing_config(ignored).verify(package, signature_file)
    except Exception as error:
        # Any way in which a signature can be wrong, unreadable ones included, is a no.
        words = " ".join(str(error).split())[:200]
        raise Fault(
            f"{name} fails its signature: {type(error).__name__}: {words}; roll back or retrain"
        ) from error
