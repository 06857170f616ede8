"""Home Assistant's device discovery: one retained message describes the device's sensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from feredge.runtime.publish.base import Message

ORIGIN = {"name": "feredge", "url": "https://github.com/feredge/feredge"}


def discovery_message(
    device_id: str, base_topic: str, source_topics: Mapping[str, str], labels: tuple[str, ...]
) -> Message:
    """Return the discovery message of a device with two sensors a source, and its connectivity.

    Args:
        device_id: the device's level of the topics.
        base_topic: `PREFIX/DEVICE`.
        source_topics: each source's level of the topics, by its name.
        labels: class names.
    """
    components: dict[str, Any] = {"online": {
        "platform": "binary_sensor", "name": "Online", "device_class": "connectivity",
        "unique_id": f"feredge_{device_id}_online", "state_topic": f"{base_topic}/status",
        "value_template": "{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
    }}
    for topic in source_topics.values():
        components |= source_sensors(f"feredge_{device_id}_{topic}", f"{base_topic}/{topic}/state",
                                     topic, labels)
    record = {"device": {"identifiers": [f"feredge_{device_id}"], "name": f"feredge {device_id}"},
              "origin": ORIGIN, "availability_topic": f"{base_topic}/status",
              "availability_template": "{{ value_json.state }}", "components": components}
    object_id = re.sub(r"[^A-Za-z0-9_-]", "_", device_id)  # Home Assistant takes no dot here
    return Message.from_record(f"homeassistant/device/feredge_{object_id}/config", record,
                               retain=True)


def source_sensors(
    unique_id: str, state_topic: str, name: str, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Return a source's sensors: the number of people, and the expression of the first face."""
    people = {"platform": "sensor", "name": f"{name} people", "unique_id": f"{unique_id}_people",
              "state_topic": state_topic, "value_template": "{{ value_json.people }}",
              "state_class": "measurement"}
    first = ("{{ value_json.faces[0].label if value_json.faces and value_json.faces[0].label "
             "else 'none' }}")
    expression = {"platform": "sensor", "name": f"{name} expression",
                  "unique_id": f"{unique_id}_expression", "state_topic": state_topic,
                  "device_class": "enum", "options": [*labels, "none"], "value_template": first}
    return {f"{unique_id}_people": people, f"{unique_id}_expression": expression}
