"""Reduces AsyncAPI's own meta schema to what a document with Kafka bindings alone can use.

    python3 reduce.py '<package @asyncapi/specs>/schemas/3.0.0-without-$id.json'
"""

import json
import pathlib
import sys

LEFT_OUT = ("description", "examples", "example", "x-intellij-html-description", "markdownDescription")


def is_binding(node):
    return isinstance(node, dict) and "kafka" in node and "amqp" in node


def reduced(node, inside_properties=False):
    """Without prose, and without the bindings of other protocols than Kafka."""
    if isinstance(node, list):
        return [reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    if inside_properties and is_binding(node):
        node = {"kafka": node["kafka"]}
    return {
        key: reduced(value, inside_properties=key == "properties")
        for key, value in node.items()
        if inside_properties or key not in LEFT_OUT
    }


def names_in(node):
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/definitions/"):
            yield reference.removeprefix("#/definitions/").split("/")[0]
        for value in node.values():
            yield from names_in(value)
    elif isinstance(node, list):
        for item in node:
            yield from names_in(item)


schema = json.loads(pathlib.Path(sys.argv[1]).read_text())
definitions = {name: reduced(node) for name, node in schema.pop("definitions").items()}
root = reduced(schema)
needed, waiting = set(), list(names_in(root))
while waiting:
    name = waiting.pop()
    if name not in needed:
        needed.add(name)
        waiting.extend(names_in(definitions[name]))
root["definitions"] = {name: node for name, node in definitions.items() if name in needed}
root["$comment"] = "Reduced from @asyncapi/specs; see README.md beside this file."
path = pathlib.Path(__file__).with_name("3.0.0-kafka.json")
path.write_text(json.dumps(root, indent=1) + "\n")
