"""A client of the Mintwarden API in Python: what there is to do beyond the generated stubs."""

import base64
import json
import pathlib
import sys
from dataclasses import dataclass

import grpc
import jwt
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# The stubs are made from the .proto when this is imported; a program would make them when it is built
# (python -m grpc_tools.protoc).
PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto" / "proto"
sys.path.append(str(PROTO))
messages, services = grpc.protos_and_services("mintwarden/v1/mintwarden.proto")

# RFC 9864 has a second name for EdDSA with Ed25519, which PyJWT does not know yet.
if "Ed25519" not in jwt.algorithms.get_default_algorithms():
    jwt.register_algorithm("Ed25519", jwt.algorithms.OKPAlgorithm())


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def assemble(protected_header: str, claims: bytes, signature: bytes) -> str:
    """The token in JWS compact serialization (RFC 7515 section 7.1).

    The header comes from the appliance as base64url; the claims are the very bytes that were sent.
    """
    return f"{protected_header}.{base64url(claims)}.{base64url(signature)}"


def verify(token: str, jwks: list[dict], audience: str) -> dict:
    """The claims of a token, if one of the published keys has signed it; raises jwt.PyJWTError if not."""
    header = jwt.get_unverified_header(token)
    if header["typ"] != "txntoken+jwt":
        raise jwt.InvalidTokenError(f"not a Txn-Token: typ is {header['typ']}")
    key = next((key for key in jwks if key["kid"] == header["kid"]), None)
    if key is None:
        raise jwt.InvalidTokenError(f"no published key {header['kid']}")
    # The algorithm is the key's, never what the token says.
    algorithm = key["alg"]
    public = jwt.get_algorithm_by_name(algorithm).from_jwk(key)
    required = ["iat", "aud", "exp", "txn", "sub", "scope", "req_wl"]
    return jwt.decode(
        token, public, algorithms=[algorithm], audience=audience, options={"require": required}
    )


@dataclass
class Refused(Exception):
    """The appliance refused a call or an item; `reason`, `claim` and `rule` are stable."""

    reason: str
    message: str
    claim: str = ""
    rule: str = ""
    retryable: bool = False

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class Appliance:
    """One appliance, over mutual TLS."""

    def __init__(self, target: str, certificate: bytes, key: bytes, ca: bytes):
        """`target` is HOST:PORT; the rest is PEM."""
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        self._channel = grpc.secure_channel(target, credentials)
        self._signing = services.SigningServiceStub(self._channel)
        self._jwks = services.JwksServiceStub(self._channel)

    def __enter__(self) -> "Appliance":
        return self

    def __exit__(self, *_) -> None:
        self._channel.close()

    def sign_batch(self, issuer: str, claims: list[bytes], timeout: float) -> list["str | Refused"]:
        """Signs up to 1024 payloads with one key: for each, in order, its token or why there is none.

        `timeout` is in seconds. Signing is safe to repeat: a refusal that is `retryable` may be.
        """
        request = messages.SignBatchRequest(issuer=issuer, claims=claims)
        response = self._call(self._signing.SignBatch, request, timeout)
        if len(response.results) != len(claims):
            raise ValueError("the number of results is not that of the payloads")
        return [
            assemble(response.protected_header, payload, result.signature)
            if result.WhichOneof("outcome") == "signature"
            else Refused(
                result.error.reason,
                result.error.message,
                result.error.claim,
                result.error.rule,
                result.error.retryable,
            )
            for payload, result in zip(claims, response.results)
        ]

    def jwks(self, issuer: str, timeout: float) -> list[dict]:
        """The issuer's published keys. Verifiers keep them for max_age; HTTPS serves the same."""
        response = self._call(self._jwks.GetJwks, messages.GetJwksRequest(issuer=issuer), timeout)
        return json.loads(response.jwks)["keys"]

    @staticmethod
    def _call(method, request, timeout: float):
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _refusal(error) from error


def _refusal(error: grpc.RpcError) -> Refused:
    """What the appliance says in google.rpc.ErrorInfo; else what gRPC says itself."""
    retryable = error.code() == grpc.StatusCode.UNAVAILABLE
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Unpack(info) and info.domain == "mintwarden":
            named = info.metadata
            claim, rule = named.get("claim", ""), named.get("rule", "")
            return Refused(info.reason, error.details(), claim, rule, retryable)
    return Refused(error.code().name, error.details(), retryable=retryable)
