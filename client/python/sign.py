"""Signs JSON payloads, one per line of standard input, as one batch; verifies and prints the tokens.

A line that is not signed gives no token but a line of JSON on standard error, and exit code 1.
"""

import argparse
import json
import pathlib
import sys

from appliance import Appliance, Refused, verify


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--endpoint", required=True, metavar="HOST:PORT")
    for file in ("cert", "key", "ca"):
        arguments.add_argument(f"--{file}", required=True, type=pathlib.Path, metavar="PEM")
    arguments.add_argument("--issuer", required=True)
    arguments.add_argument("--audience", required=True)
    arguments.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS")
    given = arguments.parse_args()

    claims = [line.rstrip(b"\n") for line in sys.stdin.buffer]
    pem = (given.cert.read_bytes(), given.key.read_bytes(), given.ca.read_bytes())
    failed = False
    with Appliance(given.endpoint, *pem) as appliance:
        try:
            jwks = appliance.jwks(given.issuer, given.timeout)
            tokens = appliance.sign_batch(given.issuer, claims, given.timeout)
        except Refused as refused:
            print(json.dumps(vars(refused)), file=sys.stderr)
            return 1
    for number, token in enumerate(tokens, start=1):
        if isinstance(token, Refused):
            failed = True
            print(json.dumps({"line": number, **vars(token)}), file=sys.stderr)
        else:
            verify(token, jwks, given.audience)
            print(token)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
