from real_broker import face, result

from feredge.runtime.publish.home_assistant import discovery_message
from feredge.runtime.publish.messages import SourceState

LABELS = ("neutral", "happiness", "anger")


def unsure(index):
    one = result(index, face(1, "anger"))
    one.faces.label_ids[:] = -1
    return one


def test_a_label_after_an_unsure_face_is_an_event():
    state = SourceState(LABELS)
    frames = [unsure(0), result(1, face(1, "happiness")), unsure(2), result(3, face(1, "anger")),
              result(4, face(1, "anger"))]
    events = [[(event["event"], event["label"]) for event in state.update(one)] for one in frames]
    assert events == [[], [("label", "happiness")], [("label", None)], [("label", "anger")], []]


def test_home_assistant_gets_an_object_id_without_dots():
    message = discovery_message("pi.local", "feredge/pi.local", {"door": "door"}, LABELS)
    assert message.topic == "homeassistant/device/feredge_pi_local/config"
