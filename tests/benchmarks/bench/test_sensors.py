"""What a machine tells of itself, from a made-up /sys of a Jetson, and from nothing."""

import pytest

from feredge.benchmarks.bench.sensors import sensors

JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0\nmore\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1510400\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51500\n",
    "sys/class/thermal/thermal_zone1/type": "cv0-thermal\n",  # switched off: no temperature
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "1\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input": "5000\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input": "1500\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in2_label": "VDD_SOC\n",  # no current
}


@pytest.fixture
def no_gpu(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_a_jetson_tells_everything_but_what_is_switched_off(no_gpu):
    for name, content in JETSON.items():
        (no_gpu / name).parent.mkdir(parents=True, exist_ok=True)
        (no_gpu / name).write_text(content)
    assert sensors(no_gpu) == {
        "board": "NVIDIA Jetson Orin Nano Developer Kit", "jetpack": "# R36 (release), "
        "REVISION: 4.0", "power_mode": "pmode:0002", "governor": "schedutil", "cpu_mhz": 1510.4,
        "cpu_max_mhz": None, "throttle_count": None, "temperatures_c": {"cpu-thermal": 51.5},
        "cooling": {"gpu-throttle-alert": 1.0}, "power_w": {"VDD_IN": 7.5}, "gpu": None,
    }


def test_a_machine_that_tells_nothing_is_no_error(no_gpu):
    assert not any(sensors(no_gpu).values())


def test_a_gpu_tells_what_nvml_knows(no_gpu):
    tool = no_gpu / "bin" / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "NVIDIA A2, 560.35, 1770 MHz, 6251 MHz, 43, 21.50 W, '
                    '0x0000000000000001, [N/A]"\n')
    tool.chmod(0o755)
    gpu = sensors(no_gpu)["gpu"]
    assert gpu["name"] == "NVIDIA A2" and gpu["power.draw"] == "21.50 W"
    assert "power.limit" not in gpu
