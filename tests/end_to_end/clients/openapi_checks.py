"""The API's description by an independent validator, and answers of the gateway by the description.

openapi_checks.py http://ADDR:PORT: a line `ok NAME` for each check that holds, in this order.
"""

import json
import sys
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

BASE = sys.argv[1]


def get(path):
    with urllib.request.urlopen(BASE + path, timeout=10) as response:
        return json.load(response)


document = get("/v1/openapi.json")
OpenAPIV31SpecValidator(document).validate()
print("ok valid", flush=True)

# Every path without a key of its own, and some with.
asked = {path: path for path, methods in document["paths"].items() if "get" in methods and "{" not in path}
for event_stream in ["/v1/live", "/v1/trace", "/v1/dead-letters/export", "/v1/decisions/watch"]:
    del asked[event_stream]
asked["/v1/clients/oven-7"] = "/v1/clients/{client_id}"
asked["/v1/streams/telemetry"] = "/v1/streams/{name}"
asked["/v1/consumers/press"] = "/v1/consumers/{name}"
asked["/v1/consumers/press/next"] = "/v1/consumers/{name}/next"
letter = get("/v1/dead-letters")["dead_letters"][0]
asked[f"/v1/dead-letters/press/{letter['offset']}"] = "/v1/dead-letters/{consumer}/{offset}"

for path, described in sorted(asked.items()):
    schema = document["paths"][described]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    answer = get(path)
    errors = [f"{path} {list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(answer)]
    assert not errors, errors
    # A schema of an object that says nothing would hold for everything.
    items = [value for value in answer.values() if isinstance(value, list)] if path != "/v1/openapi.json" else []
    assert path != "/v1/clients" or items[0], "there are clients to look at"
print(f"ok answers", flush=True)

wrong = Draft202012Validator({"$ref": "#/components/schemas/StreamView", "components": document["components"]})
assert list(wrong.iter_errors({"name": 7})), "what is wrong is seen"
print("ok strict", flush=True)
