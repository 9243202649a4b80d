"""gpueval gpus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .output import Form, Json, Pretty, form, show, user_errors

if TYPE_CHECKING:
    from pytest_gpueval.gpus.devices import Device
    from pytest_gpueval.gpus.locks import Owner
    from pytest_gpueval.gpus.nvml import Reading

_HEADERS = ("index", "uuid", "name", "driver", "memory", "utilization", "temperature", "power", "state", "lease", "processes")


def gpus(json_: Json = False, pretty: Pretty = False) -> None:
    """List the GPUs that --gpus can name, and who uses them.

    CUDA_VISIBLE_DEVICES is honoured, as by --gpus.

    Examples:
      gpueval gpus

      gpueval gpus --json
    """
    from pytest_gpueval.errors import RuntimeFault, Unreachable

    wanted = form(json_, pretty)
    with user_errors():
        try:
            rows = _rows()
        except RuntimeFault as error:
            raise Unreachable(str(error)) from None
    if wanted is not Form.TABLE:
        show(rows, (), wanted)
    elif rows:
        show([_cells(row) for row in rows], _HEADERS, wanted)
    else:
        from pytest_gpueval.gpus.devices import hidden

        print(f"This machine shows no NVIDIA GPU{hidden(os.environ)}; --gpus none and auto take CPU lanes here.")


def _rows() -> list[dict[str, Any]]:
    from pytest_gpueval.gpus import devices, leases, nvml

    with nvml.session():  # held open: to initialise a driver without persistence mode takes seconds each time
        seen = devices.visible(os.environ)
        driver = nvml.driver()
        reads = leases.observe([device.uuid for device in seen])
    return [_row(device, driver, reads[device.uuid], leases.holder(device.uuid)) for device in seen]


def _row(device: Device, driver: str | None, reads: Sequence[Reading], owner: Owner | None) -> dict[str, Any]:
    from pytest_gpueval.gpus.leases import busy

    why = busy(*reads)
    return {
        **asdict(device),
        "label": device.label,
        "driver": driver,
        **asdict(reads[-1]),
        "state": "leased" if owner else "busy" if why else "free",
        "why": why,
        "lease": asdict(owner) if owner else None,
    }


def _cells(row: dict[str, Any]) -> dict[str, str | None]:
    """The table's words for a row."""
    lease = row["lease"] or {}
    processes = row["processes"] or ()
    return {
        "index": row["label"],
        "uuid": row["uuid"],
        "name": row["name"],
        "driver": row["driver"],
        "memory": None if row["memory_used_mib"] is None else f"{row['memory_used_mib']} / {row['memory_total_mib']} MiB",
        "utilization": _with_unit(row["utilization"], "%"),
        "temperature": _with_unit(row["temperature_c"], "°C"),
        "power": _with_unit(None if row["power_w"] is None else round(row["power_w"]), "W"),
        "state": f"busy: {row['why']}" if row["state"] == "busy" else row["state"],
        "lease": ", ".join(f"{key} {lease[name]}" for key, name in _LEASE if lease.get(name)),
        "processes": ", ".join(f"{one['pid']}" + ("" if one["memory_mib"] is None else f" ({one['memory_mib']} MiB)") for one in processes),
    }


_LEASE = (("pid", "pid"), ("user", "user"), ("session", "session"), ("since", "started_at"))


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"
