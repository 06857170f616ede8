# make demo   from nothing to labeled faces in a picture
# make check  ruff, mypy --strict and the fast tests
# make test   everything that CI runs
# make core   the runtime alone, with its lowest (RESOLUTION=lowest) or newest requirements
# make fuzz   100,000 generated inputs through every parser
# make bench  the numbers of the READMEs, measured here (needs the labeled faces, see CONTRIBUTING)
# make compare  ... and those of other quantizers and packages

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# A CPU build of torch is enough to export; a venv that has another one keeps it.
TORCH  ?= torch==2.13.0
DETECTOR ?=
# Two workers share the cores with the threads of onnxruntime and OpenCV.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

.PHONY: demo check test lint types types-all fast pytest core resolve fuzz bench compare clean

demo: $(VENV)/demo demo/manet.int8.onnx
	picture=$$($(BIN)/python -m feredge.export.portrait) && \
	$(BIN)/fer-run --engine demo/manet.int8.onnx --source "$$picture" \
		$(if $(DETECTOR),--detector $(DETECTOR)) --output demo/portrait.jpg --jsonl demo/portrait.jsonl && \
	$(BIN)/fer-run --source "$$picture" --output demo/bundled.jpg --jsonl demo/bundled.jsonl
	@echo "with the exported network, demo/portrait.jpg and demo/portrait.jsonl:"; cat demo/portrait.jsonl
	@echo "with the bundled network, demo/bundled.jpg and demo/bundled.jsonl:"; cat demo/bundled.jsonl

demo/manet.int8.onnx: | $(VENV)/demo
	$(BIN)/fer-export --model manet --int8 --target onnx --output demo

check: lint types fast

test: lint types-all pytest resolve

lint: $(VENV)/dev
	$(BIN)/ruff check .

types: $(VENV)/dev
	MYPYPATH=src $(BIN)/mypy -p feredge

types-all: $(VENV)/dev
	for version in 3.10 3.11 3.13; do \
		MYPYPATH=src $(BIN)/mypy --python-version $$version -p feredge || exit 1; \
	done

fast: $(VENV)/dev
	$(PYTEST) -m "not slow" -q

# Cameras, brokers and browsers run on a clock of their own: one more try on a busy machine, reported.
pytest: $(VENV)/dev
	$(PYTEST) --reruns 1

# What a device installs, without torch or any extra, on the oldest and the newest of everything.
RESOLUTION ?= highest
LOWEST := numpy==1.23.5 opencv-python==4.6.0.66 onnxruntime==1.18.0
core:
	$(PYTHON) -m venv build/core-$(RESOLUTION)
	build/core-$(RESOLUTION)/bin/pip install --quiet pytest pytest-timeout scikit-image . \
		$(if $(filter lowest,$(RESOLUTION)),$(LOWEST))
	build/core-$(RESOLUTION)/bin/pytest -q -p no:cacheprovider tests/core

# The core must resolve from JetPack 6's Python to the newest.
resolve: $(VENV)/dev
	rm -rf build/wheel && $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	for version in 3.10 3.13; do \
		$(BIN)/pip install --quiet --dry-run --target build/resolve --only-binary=:all: \
			--python-version $$version build/wheel/*.whl || exit 1; \
	done

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[export]'
	touch $@

$(VENV)/dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps tensorrt-stubs==10.13.0.35.1
	touch $@

fuzz: $(VENV)/dev
	$(RUN).robustness tests/fuzz --json $(RESULTS)/robustness.json

# DATA holds ferplus-valid/, ferplus-calibration/ and photos/; see the README.
DATA ?= ../shared/data
RESULTS := benchmarks/results
RUN := $(BIN)/python -m feredge.benchmarks.experiments
RIVALS := torch,onnxruntime-fp32,openvino,session

bench: $(VENV)/dev
	$(BIN)/pip install --quiet openvino
	$(BIN)/fer-export --model manet --int8 --fp16 --target onnx --output build/bench
	$(RUN).full_width build/bench/full.pth
	$(BIN)/fer-export --model manet --checkpoint build/bench/full.pth --name full --int8 --fp16 \
		--target onnx --calibration-data $(DATA)/photos --min-agreement 0 --output build/bench
	$(RUN).plans build/bench manet full $(if $(DETECTOR),--detector $(DETECTOR)) \
		--json $(RESULTS)/plans.json
	$(RUN).install . --json $(RESULTS)/install.json
	$(BIN)/fer-eval --data $(DATA)/ferplus-valid --engine build/bench/manet.onnx \
		--engine runtime/weights/manet.int8.onnx --json $(RESULTS)/accuracy.json
	$(BIN)/fer-eval --csv $(DATA)/photos/labels.csv --detect --engine runtime/weights/manet.int8.onnx \
		$(if $(DETECTOR),--detector $(DETECTOR)) --json $(RESULTS)/photos.json
	$(BIN)/fer-bench --engine build/bench/full.onnx --engine build/bench/full.int8.onnx \
		--checkpoint build/bench/full.pth --baseline $(RIVALS),torch-compile \
		--batch 1,2,4,8,16 --duration 1.5 --peak --profile \
		--json $(RESULTS)/latency-full-width.json --plot $(RESULTS)/latency-full-width.png
	$(BIN)/fer-bench --engine build/bench/manet.onnx --engine build/bench/manet.int8.onnx \
		--baseline $(RIVALS) --duration 1.5 --peak --profile \
		--json $(RESULTS)/latency-bundled.json
	$(RUN).startup --engine build/bench/manet.int8.onnx \
		$(if $(DETECTOR),--detector $(DETECTOR)) --json $(RESULTS)/startup.json
	$(RUN).pipeline --engine build/bench/manet.int8.onnx \
		$(if $(DETECTOR),--detector $(DETECTOR)) --json $(RESULTS)/pipeline.json
	cd build/bench && cp ../../tests/export/tiny_network.py . && ../../$(BIN)/fer-export \
		--model tiny_network:tiny --random-weights --target onnx
	$(RUN).page --engine build/bench/manet.int8.onnx --soak-engine build/bench/tiny.onnx \
		$(if $(DETECTOR),--detector $(DETECTOR)) --json $(RESULTS)/page.json
	$(RUN).tracks --engine build/bench/manet.int8.onnx --faces $(DATA)/ferplus-valid \
		$(if $(DETECTOR),--detector $(DETECTOR)) --json $(RESULTS)/tracks.json
	$(RUN).networks $(DATA)/ferplus-calibration --json $(RESULTS)/networks.json
	$(RUN).readme $(RESULTS) README.md */README.md */*/README.md

# After bench: other quantizers and other packages, which bring gigabytes of their own.
compare: $(VENV)/dev
	$(PYTHON) -m venv build/modelopt && build/modelopt/bin/pip install --quiet 'nvidia-modelopt[onnx]'
	$(RUN).quantizers build/bench $(DATA)/ferplus-calibration $(DATA)/ferplus-valid \
		--modelopt build/modelopt/bin/python --json $(RESULTS)/quantizers.json
	$(RUN).peers . build/bench/manet.int8.onnx --scenes $(DATA)/photos/labels.csv \
		--crops $(DATA)/ferplus-valid $(if $(DETECTOR),--detector $(DETECTOR)) \
		--json $(RESULTS)/peers.json

clean:
	rm -rf $(VENV) build demo *.egg-info
