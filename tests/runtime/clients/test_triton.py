"""The client against a gRPC server of the KServe v2 service, with onnxruntime behind it."""

from concurrent import futures

import numpy as np
import pytest

from feredge.runtime import open_engine
from feredge.runtime.clients.triton import ServerAddress, TritonEngine
from feredge.runtime.errors import EngineError, SpecError, UsageError

pytest.importorskip("tritonclient.grpc")
import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One model, as Triton serves it; `configured` is False for servers of KServe v2 alone."""

    def __init__(self, engine):
        self.engine, self.configured, self.requests = engine, True, 0

    def ModelMetadata(self, request, context):
        if request.name != "manet":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        side = self.engine.spec.input.side
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(name="manet", inputs=[tensor(
            name="faces", datatype="FP32", shape=[-1, 3, side, side])], outputs=[tensor(
                name="probabilities", datatype="FP32", shape=[-1, len(self.engine.spec.labels)])])

    def ModelConfig(self, request, context):
        if not self.configured:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "ModelConfig is not implemented")
        response = pb.ModelConfigResponse()
        response.config.max_batch_size = 4
        response.config.parameters["feredge"].string_value = self.engine.spec.to_json()
        return response

    def ModelInfer(self, request, context):
        self.requests += 1
        crops = np.frombuffer(request.raw_input_contents[0], np.float32)
        probabilities = self.engine.infer(crops.reshape(list(request.inputs[0].shape)))
        response = pb.ModelInferResponse(model_name="manet")
        response.outputs.add(name="probabilities", datatype="FP32", shape=probabilities.shape)
        response.raw_output_contents.append(probabilities.tobytes())
        return response


@pytest.fixture(scope="module")
def local(exported):
    with open_engine(exported / "manet.int8.onnx") as engine:
        yield engine


@pytest.fixture
def server(local):
    service = Server(local)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    service.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service
    server.stop(None).wait()


def test_a_server_gives_the_local_engines_probabilities(server, local, astronaut):
    boxes = np.array([[180, 60, 270, 160], [170, 40, 290, 180], [0, 0, 90, 90]] * 3, np.float32)
    with open_engine(f"triton://127.0.0.1:{server.port}/manet") as engine:
        assert engine.spec == local.spec and engine.max_batch == 4 and engine.device == "server"
        assert engine.classify(astronaut, boxes) == pytest.approx(
            local.classify(astronaut, boxes), abs=1e-5)
    assert server.requests == 3  # nine faces in batches of four


def test_a_server_without_triton_s_configuration_takes_the_spec_from_a_file(
        server, local, tmp_path, astronaut):
    server.configured = False
    address = f"triton://127.0.0.1:{server.port}/manet"
    with pytest.raises(SpecError, match=r"add \?spec=FILE"):
        TritonEngine(address)
    (tmp_path / "feredge.json").write_text(local.spec.to_json())
    with TritonEngine(f"{address}?spec={tmp_path / 'feredge.json'}") as engine:
        assert engine.classify(astronaut, np.array([[180, 60, 270, 160]])).shape == (1, 8)


def test_another_model_and_a_server_that_is_not_there_are_one_line(server):
    with pytest.raises(EngineError, match="unknown model other; is the server running"):
        TritonEngine(f"triton://127.0.0.1:{server.port}/other")
    with pytest.raises(EngineError, match="is the server running"):
        TritonEngine("triton://127.0.0.1:9/manet")


def test_a_closed_engine_says_so(server, astronaut):
    engine = TritonEngine(f"triton://127.0.0.1:{server.port}/manet")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.classify(astronaut, np.array([[180, 60, 270, 160]]))


@pytest.mark.parametrize("text", ["triton://", "triton://host", "triton://host:99999/m",
                                  "triton://host/a/b"])
def test_a_malformed_address_is_one_line(text):
    with pytest.raises(UsageError, match="engine triton"):
        ServerAddress.parse(text)
