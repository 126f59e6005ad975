"""Verifies Txn-Tokens, one per line of standard input, with two libraries; prints the claims of each.

A token that either of them refuses gives no claims but a line of JSON on standard error, and exit code 1.
"""

import argparse
import json
import pathlib
import sys

from jwcrypto import jwk, jwt as jwcrypto_jwt
from jwcrypto.common import JWException
import jwt

from appliance import verify as with_pyjwt


def with_jwcrypto(token: str, keys: jwk.JWKSet, audience: str) -> dict:
    """The claims of a token, if one of the published keys has signed it; raises JWException if not."""
    verified = jwcrypto_jwt.JWT(
        jwt=token,
        key=keys,
        algs=sorted({key.get("alg") for key in keys}),
        expected_type="JWS",
        check_claims={"exp": None, "iat": None, "aud": audience, "txn": None, "sub": None},
    )
    if json.loads(verified.header)["typ"] != "txntoken+jwt":
        raise JWException("not a Txn-Token")
    return json.loads(verified.claims)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jwks", required=True, type=pathlib.Path, metavar="FILE")
    arguments.add_argument("--audience", required=True)
    given = arguments.parse_args()

    published = given.jwks.read_text()
    keys, key_set = json.loads(published)["keys"], jwk.JWKSet.from_json(published)
    failed = False
    for number, token in enumerate(sys.stdin.read().split("\n")[:-1], start=1):
        refusals = {}
        try:
            claims = with_pyjwt(token, keys, given.audience)
        except (jwt.PyJWTError, KeyError) as error:
            refusals["PyJWT"] = type(error).__name__
        try:
            again = with_jwcrypto(token, key_set, given.audience)
        # jwcrypto passes on what its own parsing stumbles over.
        except (JWException, ValueError, KeyError, TypeError) as error:
            refusals["jwcrypto"] = type(error).__name__
        if refusals:
            failed = True
            print(json.dumps({"line": number, **refusals}), file=sys.stderr)
            continue
        assert claims == again, "two libraries read one token differently"
        print(json.dumps(claims))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
