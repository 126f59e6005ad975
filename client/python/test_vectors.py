"""The published test vectors: python test_vectors.py"""

import base64
import json
import pathlib
import unittest

import jwt

from appliance import assemble

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "proto" / "vectors"


class Vectors(unittest.TestCase):
    def test_tokens_are_assembled_and_verify(self):
        files = sorted(VECTORS.glob("*.json"))
        self.assertGreaterEqual(len(files), 6)
        for file in files:
            given = json.loads(file.read_text("utf-8"))
            algorithm = given["algorithm"]
            key = jwt.get_algorithm_by_name(algorithm).from_jwk(given["jwk"])
            for vector in given["vectors"]:
                with self.subTest(algorithm=algorithm, vector=vector["name"]):
                    payload = base64.b64decode(vector["payload_base64"])
                    self.assertEqual(payload, vector["payload"].encode("utf-8"))
                    signature = base64.b64decode(vector["signature_base64"])
                    token = assemble(given["protected_header"], payload, signature)
                    self.assertEqual(token, vector["token"])
                    signed = jwt.api_jws.decode(token, key, algorithms=[algorithm])
                    self.assertEqual(signed, payload)


if __name__ == "__main__":
    unittest.main()
