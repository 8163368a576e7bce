"""Who made a package: signed with OpenSSF's model-signing and this project's own key, checked before it answers.

The key is made at first use, in .tidemill/keys. Another machine needs the public half alone:
TIDEMILL_PUBLIC_KEY names its file.
"""

import os
from pathlib import Path

from tidemill.package.allowed_files import SIGNATURE
from tidemill.runtime import paths
from tidemill.runtime.errors import Fault
from tidemill.runtime.files import locked, write


def key() -> Path:
    """The private key, an elliptic curve's (NIST P-256); made where there is none, readable by its owner alone."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = paths.state("keys", "signing.key")
    with locked(paths.state("locks", "signing")):
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = ec.generate_private_key(ec.SECP256R1())
            write(
                path.with_suffix(".pub"),
                made.public_key()
                .public_bytes(
                    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
                )
                .decode(),
            )
            old = os.umask(0o077)
            try:
                write(
                    path,
                    made.private_bytes(
                        serialization.Encoding.PEM,
                        serialization.PrivateFormat.PKCS8,
                        serialization.NoEncryption(),
                    ).decode(),
                )
            finally:
                os.umask(old)
            path.chmod(0o600)
    return path


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
    """Raise `Fault` where the package was not signed with this project's key, or was changed since."""
    from model_signing import hashing, verifying

    given = os.environ.get("TIDEMILL_PUBLIC_KEY")
    public = Path(given) if given else paths.state("keys", "signing.pub")
    signature = package / SIGNATURE
    if not signature.is_file():
        raise Fault(f"{name} is not signed; retrain it, or roll back to a version that is")
    if not public.is_file():
        raise Fault(
            f"{name} cannot be checked: there is no public key at {public}; copy keys/signing.pub of the machine that made it there, or name it in TIDEMILL_PUBLIC_KEY"
        )
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(
            hashing.Config().set_ignored_paths(paths=[signature], ignore_git_paths=False)
        ).verify(package, signature)
    except Exception as error:
        # Any way in which a signature can be wrong, unreadable ones included, is a no.
        raise Fault(
            f"{name} fails its signature: {type(error).__name__}: {' '.join(str(error).split())[:200]}; roll back or retrain"
        ) from error
