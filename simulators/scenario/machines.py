"""Injection moulding machines as a user writes them: machine, moulds, jobs, faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel
from simulators.physics.drives import DRIVES
from simulators.physics.faults import CAVITY_FAULTS, FAULT_KINDS, ZONE_FAULTS, Fault, FaultKind, schedule
from simulators.physics.jobs import JobOrder
from simulators.physics.machine import MachineSpec
from simulators.physics.moulds import screw_diameter_mm, standard_cycle
from simulators.physics.stops import StopRates
from simulators.scenario.moulds import MouldConfig, Name, most_shot_cm3, usual_moulds
from simulators.scenario.refusal import names_in, refuse, refuse_twice

Segment = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
_H_MS: Final = 3_600_000.0
_SCHEDULED_DAYS: Final = 400.0
"""Random faults are drawn for so long; a run that goes on has none after that."""


class StopsConfig(ConfigModel):
    """How often machines stand, and how long."""

    mean_between_min: float = Field(default=180.0, ge=1.0, le=100_000.0)
    """Mean production time between two stops, in minutes."""
    median_repair_min: float = Field(default=9.0, ge=0.5, le=240.0)
    """Median time to repair, in minutes."""
    median_changeover_min: float = Field(default=45.0, ge=4.0, le=120.0)
    """Median time of a mould change, in minutes; a change of colour takes 40 % of it."""
    mean_between_micro_min: float = Field(default=40.0, ge=1.0, le=100_000.0)
    """Mean production time between two hesitations of 20 to 90 s, in minutes."""


class JobConfig(ConfigModel):
    """An ordered job; after the last one the machine goes on with jobs of its own invention."""

    name: Name
    """Of the order."""
    mould: Name
    """One of the machine's moulds."""
    parts: int = Field(ge=1, le=100_000_000)
    """Parts ordered."""
    colour: Name | None = None
    """One of the mould's colours; by default its first."""
    after_h: float | None = Field(default=None, ge=0.0)
    """Not before so many hours of the machine's life; by default as soon as the job before is done."""


class FaultConfig(ConfigModel):
    """A process fault that is to happen."""

    kind: FaultKind
    """Which."""
    after_h: float = Field(ge=0.0)
    """Hours of the machine's life until it begins."""
    for_h: float = Field(gt=0.0, le=10_000.0)
    """Hours that it lasts."""
    severity: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of its full effect."""
    place: int = Field(default=1, ge=1, le=256)
    """Barrel zone (``sensor_drift``, ``heater_band``) or cavity (``blocked_gate``), from 1; other kinds have none."""


class MachineConfig(ConfigModel):
    """One injection moulding machine."""

    cell: Segment
    """Its name, unique within the site."""
    area: Segment = "moulding"
    """ISA-95 area of its asset path."""
    line: Segment = "cell-a"
    """ISA-95 line of its asset path."""
    protocol: Literal["opcua", "gateway", "sparkplug"] = "opcua"
    """How it speaks: EUROMAP 77 on the site's OPC UA server, an old machine's MQTT gateway, or as a device of the
    site's Sparkplug edge node."""
    drive: Literal["electric", "servo_hydraulic", "hydraulic"] = "servo_hydraulic"
    """What it draws from the mains, and when."""
    clamp_kn: float = Field(default=1600.0, ge=50.0, le=50_000.0)
    """Clamping force, in kN."""
    zones: int = Field(default=5, ge=3, le=12)
    """Heated zones of the barrel."""
    moulds: tuple[MouldConfig, ...] = Field(default=(), max_length=100)
    """The moulds that run on it; by default two of the usual size."""
    batch: tuple[int, int] = (1_500, 9_000)
    """Least and most parts of a job that is not ordered."""
    jobs: tuple[JobConfig, ...] = Field(default=(), max_length=10_000)
    """Ordered jobs, in the order in which they are made."""
    scrap_rate: float = Field(default=0.0115, ge=0.0, le=0.5)
    """Share of the parts that are bad."""
    semi_automatic: bool = False
    """Somebody opens and closes the guard for each cycle."""
    stops: StopsConfig = StopsConfig()
    """How often it stands, and how long."""
    faults: tuple[FaultConfig, ...] = Field(default=(), max_length=1_000)
    """Process faults that are to happen."""
    faults_per_day: float = Field(default=0.0, ge=0.0, le=24.0)
    """Process faults that happen by chance, a day on average. They are drawn for the first 400 days of the machine's
    life: a run that goes on has none after that."""
    seed: int | None = Field(default=None, ge=0)
    """Of everything random in it; by default it follows from the scenario's seed and the machine's asset path."""
    meter: Literal["plain", "tasmota", "shelly", "none"] = "plain"
    """The dialect of its energy meter."""

    @model_validator(mode="before")
    @classmethod
    def _usual_moulds(cls, given: object) -> object:
        if isinstance(given, dict) and not given.get("moulds"):
            clamp_kn = given.get("clamp_kn", 1600.0)
            if isinstance(clamp_kn, int | float) and 50.0 <= clamp_kn <= 50_000.0:
                return given | {"moulds": usual_moulds(float(clamp_kn))}
        return given

    @field_validator("batch")
    @classmethod
    def _rising(cls, batch: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= batch[0] <= batch[1]:
            raise PydanticCustomError("batch", "a batch is [least, most], both at least 1")
        return batch

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        refuse_twice("two moulds named", names_in("moulds", (mould.name for mould in self.moulds)))
        for number, mould in enumerate(self.moulds):
            if mould.clamp_kn > self.clamp_kn:
                refuse(
                    ("moulds", number, "clamp_kn"),
                    "mould {mould} is too large: it needs {needed} kN, the machine has {has} kN",
                    mould=mould.name,
                    needed=f"{mould.clamp_kn:g}",
                    has=f"{self.clamp_kn:g}",
                )
            needed_cm3 = standard_cycle(mould.mould(), self.clamp_kn).shot_cm3
            possible_cm3 = most_shot_cm3(self.clamp_kn)
            if needed_cm3 > possible_cm3:
                refuse(
                    ("moulds", number, "part_g"),
                    "mould {mould} is too large: a shot needs {needed} cm³, the machine's screw of {screw} mm gives "
                    "{possible} cm³",
                    mould=mould.name,
                    needed=f"{needed_cm3:.4g}",
                    screw=f"{screw_diameter_mm(self.clamp_kn):.0f}",
                    possible=f"{possible_cm3:.4g}",
                )
        refuse_twice("two jobs named", names_in("jobs", (job.name for job in self.jobs)))
        self._check_jobs()
        self._check_faults()
        return self

    def _check_faults(self) -> None:
        cavities = min(mould.cavities for mould in self.moulds)
        for number, fault in enumerate(self.faults):
            place = ("faults", number, "place")
            if fault.kind == "hot_oil" and not DRIVES[self.drive].hydraulic:
                refuse(
                    ("faults", number, "kind"), "an {drive} machine has no oil to get hot", drive=self.drive
                )
            if fault.kind in ZONE_FAULTS:
                if fault.place > self.zones:
                    refuse(place, "there are {count} heated zones", count=self.zones)
            elif fault.kind in CAVITY_FAULTS:
                if fault.place > cavities:
                    refuse(place, "there are {count} cavities in its smallest mould", count=cavities)
            elif "place" in fault.model_fields_set:
                refuse(place, "{kind} is a fault of the whole machine, without a place", kind=fault.kind)

    def _check_jobs(self) -> None:
        moulds = {mould.name: mould for mould in self.moulds}
        free_h, before = 0.0, ""
        for number, job in enumerate(self.jobs):
            mould = moulds.get(job.mould)
            if mould is None:
                refuse(
                    ("jobs", number, "mould"),
                    "job {job}: no mould {mould} here; known: {known}",
                    job=job.name,
                    mould=job.mould,
                    known=", ".join(moulds),
                )
            if job.colour is not None and job.colour not in mould.colours:
                refuse(
                    ("jobs", number, "colour"),
                    "job {job}: {mould} is not made in {colour}; known: {known}",
                    job=job.name,
                    mould=mould.name,
                    colour=job.colour,
                    known=", ".join(mould.colours),
                )
            begin_h = max(job.after_h or 0.0, free_h)
            if job.after_h is not None and job.after_h < free_h:
                refuse(
                    ("jobs", number, "after_h"),
                    "jobs overlap: {before} needs the machine until {until} h at its standard cycle, "
                    "{job} is to begin at {begin} h",
                    before=before,
                    until=f"{free_h:.1f}",
                    job=job.name,
                    begin=f"{job.after_h:g}",
                )
            shots = -(-job.parts // mould.cavities)
            free_h = begin_h + shots * standard_cycle(mould.mould(), self.clamp_kn).cycle_s / 3600.0
            before = job.name

    def standard_cycles(self) -> list[tuple[MouldConfig, float]]:
        """Return each mould with its standard cycle time on this machine, in seconds."""
        return [(mould, standard_cycle(mould.mould(), self.clamp_kn).cycle_s) for mould in self.moulds]

    def spec(self, seed: int, start_ms: int) -> MachineSpec:
        """Return the machine's physics; its life, which faults and jobs count from, begins at ``start_ms``."""
        names = [mould.name for mould in self.moulds]
        return MachineSpec(
            self.cell,
            DRIVES[self.drive],
            self.clamp_kn,
            self.zones,
            tuple(mould.mould() for mould in self.moulds),
            StopRates(
                self.stops.mean_between_min * 60.0,
                self.stops.median_repair_min * 60.0,
                self.stops.mean_between_micro_min * 60.0,
                self.stops.median_changeover_min * 60.0,
            ),
            self.scrap_rate,
            self.batch,
            tuple(
                JobOrder(
                    job.name,
                    names.index(job.mould),
                    job.parts,
                    job.colour or self.moulds[names.index(job.mould)].colours[0],
                    None if job.after_h is None else start_ms + round(job.after_h * _H_MS),
                )
                for job in self.jobs
            ),
            tuple(sorted(self._faults(seed, start_ms), key=lambda fault: (fault.begin_ms, fault.kind))),
            self.semi_automatic,
        )

    def _faults(self, seed: int, start_ms: int) -> Iterator[Fault]:
        for fault in self.faults:
            begin_ms = start_ms + round(fault.after_h * _H_MS)
            end_ms = begin_ms + round(fault.for_h * _H_MS)
            yield Fault(fault.kind, begin_ms, end_ms, fault.severity, fault.place)
        kinds = [kind for kind in FAULT_KINDS if kind != "hot_oil" or DRIVES[self.drive].hydraulic]
        cavities = min(mould.cavities for mould in self.moulds)
        yield from schedule(seed, start_ms, _SCHEDULED_DAYS, self.faults_per_day, kinds, self.zones, cavities)
