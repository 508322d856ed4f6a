"""Annotation files as other programs leave them."""

import json


def write_json(path, document):
    return write_text(path, json.dumps(document))


def write_text(path, text):
    path.write_text(text, encoding="utf-8")
    return path
