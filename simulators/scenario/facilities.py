"""What else stands in a plant, as a user writes it: lines, garment cells, temperature control units, compressors."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from shopfloor.configfile import ConfigModel
from simulators.physics.calendar import Calendar
from simulators.physics.compressor_spec import AirLeak, CompressorSpec
from simulators.physics.garment_spec import GarmentSpec, OperatorSpec, StyleSpec
from simulators.physics.line_spec import LineProduct, LineSpec, StationSpec
from simulators.physics.tcu_spec import TcuSpec
from simulators.scenario.machines import Segment
from simulators.scenario.moulds import Name
from simulators.scenario.refusal import names_in, refuse, refuse_twice

_H_MS: Final = 3_600_000.0
Seconds = Annotated[float, Field(ge=1.0, le=86_400.0)]


class StationConfig(ConfigModel):
    """One station of a line."""

    cell: Segment
    """Its name, unique within the site."""
    cycle_s: float = Field(ge=1.0, le=3_600.0)
    """Time for a unit of ordinary work content, in seconds."""
    cycle_sd: float = Field(default=0.05, ge=0.0, le=0.5)
    """Standard deviation of that time, relative to it."""
    hands_share: float = Field(default=0.3, ge=0.0, le=0.95)
    """First share of the cycle during which it needs one of the line's operators."""
    buffer_before: int = Field(default=3, ge=1, le=1_000)
    """Places between the station before and this one."""
    changeover_s: Seconds = 210.0
    """Median time to change to another product, in seconds."""
    mean_between_stops_min: float = Field(default=240.0, ge=1.0, le=100_000.0)
    """Mean working time between two stops, in minutes."""
    median_repair_min: float = Field(default=7.0, ge=0.2, le=240.0)
    """Median time to repair, in minutes."""


class ProductConfig(ConfigModel):
    """What a line makes."""

    name: Name
    """As it stands in the job's data."""
    work: float = Field(default=1.0, gt=0.0, le=10.0)
    """Work content: factor on the stations' cycle times."""


class LineConfig(ConfigModel):
    """A U-shaped line: stations in a row with small buffers and shared operators, one product at a time."""

    cell: Segment
    """Its name in the truth: batches and changeovers are the line's, not a station's."""
    area: Segment = "assembly"
    """ISA-95 area of its asset path."""
    line: Segment = "u-line"
    """ISA-95 line of its asset path."""
    stations: tuple[StationConfig, ...] = Field(min_length=2, max_length=30)
    """In the order in which a unit visits them; the last one tests."""
    products: tuple[ProductConfig, ...] = Field(min_length=1, max_length=100)
    """What it makes, batch by batch."""
    operators: int = Field(default=3, ge=1, le=30)
    """Who walk between the stations."""
    batch: tuple[int, int] = (20, 200)
    """Least and most units of a batch."""
    scrap_rate: float = Field(default=0.03, ge=0.0, le=0.5)
    """Share of tests that fail."""
    rework_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Of the units that fail their first test, the share that is worked at again."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        stations = names_in("stations", (station.cell for station in self.stations), "cell")
        refuse_twice("line and stations twice named", [(("cell",), self.cell), *stations])
        refuse_twice("two products named", names_in("products", (product.name for product in self.products)))
        _check_batch(self.batch)
        return self

    def spec(self, calendar: Calendar) -> LineSpec:
        """Return the line's physics."""
        return LineSpec(
            cell=self.cell,
            stations=tuple(
                StationSpec(
                    station.cell,
                    station.cycle_s,
                    station.cycle_sd,
                    station.hands_share,
                    station.buffer_before,
                    station.changeover_s,
                    station.mean_between_stops_min * 60.0,
                    station.median_repair_min * 60.0,
                )
                for station in self.stations
            ),
            calendar=calendar,
            products=tuple(LineProduct(product.name, product.work) for product in self.products),
            operators=self.operators,
            batch_size=self.batch,
            scrap=self.scrap_rate,
            rework_share=self.rework_share,
        )


class OperationConfig(ConfigModel):
    """One operation at a garment."""

    name: Name
    """What is done."""
    minutes: float = Field(gt=0.0, le=120.0)
    """Its standard minute value."""


class StyleConfig(ConfigModel):
    """A garment."""

    name: Name
    """Of the style."""
    operations: tuple[OperationConfig, ...] = Field(min_length=1, max_length=50)
    """In their order; the last is inspection."""


class OperatorConfig(ConfigModel):
    """A workplace and the person at it."""

    cell: Segment
    """Its name, unique within the site."""
    pace: float = Field(default=1.0, ge=0.5, le=2.0)
    """Time for a garment relative to its standard, when practised and fresh."""
    pace_sd: float = Field(default=0.15, ge=0.05, le=0.4)
    """Standard deviation of the time from garment to garment, relative to it."""


class GarmentCellConfig(ConfigModel):
    """A cell that makes whole garments by hand, in small batches of many styles."""

    cell: Segment
    """Its name; batches are named after it."""
    area: Segment = "sewing"
    """ISA-95 area of its asset path."""
    line: Segment = "garment-cell"
    """ISA-95 line of its asset path."""
    operators: tuple[OperatorConfig, ...] = Field(min_length=1, max_length=50)
    """The workplaces."""
    styles: tuple[StyleConfig, ...] = Field(min_length=1, max_length=500)
    """What it makes."""
    batch: tuple[int, int] = (8, 60)
    """Least and most garments of a batch."""
    median_changeover_min: float = Field(default=5.0, ge=1.0, le=60.0)
    """Median time to change to another style, in minutes."""
    defect_rate: float = Field(default=0.05, ge=0.0, le=0.5)
    """Share of garments that fail their first inspection."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        workplaces = names_in("operators", (operator.cell for operator in self.operators), "cell")
        refuse_twice("two workplaces named", workplaces)
        refuse_twice("two styles named", names_in("styles", (style.name for style in self.styles)))
        _check_batch(self.batch)
        return self

    def spec(self, calendar: Calendar) -> GarmentSpec:
        """Return the cell's physics."""
        return GarmentSpec(
            name=self.cell,
            operators=tuple(
                OperatorSpec(operator.cell, operator.pace, operator.pace_sd) for operator in self.operators
            ),
            styles=tuple(
                StyleSpec(style.name, tuple((each.name, each.minutes) for each in style.operations))
                for style in self.styles
            ),
            calendar=calendar,
            batch_size=self.batch,
            changeover_s=self.median_changeover_min * 60.0,
            defects=self.defect_rate,
        )


class TcuConfig(ConfigModel):
    """A temperature control unit, OPC 40082-1 on the site's OPC UA server."""

    cell: Segment
    """Its name, unique within the site."""
    area: Segment = "moulding"
    """ISA-95 area of its asset path."""
    line: Segment = "cell-a"
    """ISA-95 line of its asset path."""
    heat_kw: float = Field(default=3.0, ge=0.0, le=200.0)
    """Mean heat that its mould gives to the water, in kW; at most three quarters of ``cooler_kw``."""
    cooler_kw: float = Field(default=25.0, gt=0.0, le=400.0)
    """Of its cooler, in kW."""
    setpoints_c: tuple[Annotated[float, Field(gt=0.0, le=180.0)], ...] = Field(default=(55.0,), min_length=1)
    """Set temperatures of the products that take turns, in degrees Celsius."""
    heater_kw: float = Field(default=9.0, gt=0.0, le=200.0)
    """Of its heater, in kW."""
    flow_l_min: float = Field(default=14.0, gt=0.0, le=500.0)
    """Flow of a clean circuit, in litres a minute."""

    @model_validator(mode="after")
    def _cools_enough(self) -> Self:
        if 1.34 * self.heat_kw > self.cooler_kw:
            refuse(
                ("heat_kw",),
                "a cooler of {cooler} kW is too small for {heat} kW of heat",
                cooler=f"{self.cooler_kw:g}",
                heat=f"{self.heat_kw:g}",
            )
        return self

    def spec(self, calendar: Calendar) -> TcuSpec:
        """Return its physics."""
        return TcuSpec(
            self.cell,
            calendar,
            self.heat_kw,
            self.setpoints_c,
            heater_kw=self.heater_kw,
            cooler_kw=self.cooler_kw,
            flow_l_min=self.flow_l_min,
        )


class AirLeakConfig(ConfigModel):
    """A leak that opens and is mended."""

    after_h: float = Field(ge=0.0)
    """Hours of the compressor's life until it opens."""
    for_h: float = Field(gt=0.0, le=10_000.0)
    """Hours that it lasts."""
    severity: float = Field(default=1.0, gt=0.0, le=1.0)
    """At 1 the base load is a fifth more."""


class CompressorConfig(ConfigModel):
    """An air compressor, which speaks JSON over MQTT."""

    cell: Segment
    """Its name, unique within the site."""
    area: Segment = "utilities"
    """ISA-95 area of its asset path."""
    line: Segment = "air"
    """ISA-95 line of its asset path."""
    rated_flow: float = Field(default=4.0, gt=0.0, le=200.0)
    """Nm³ a minute."""
    variable_speed: bool = False
    """Follows the demand by its speed; otherwise it loads and unloads."""
    leak_share: float = Field(default=0.12, ge=0.0, le=0.6)
    """Leaks as a share of the rated flow, day and night."""
    demand_share: float = Field(default=0.5, ge=0.0, le=0.8)
    """Mean use at work as a share of the rated flow, without leaks."""
    leaks: tuple[AirLeakConfig, ...] = Field(default=(), max_length=1_000)
    """Further leaks that open, one after another."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.leak_share + self.demand_share > 0.9:
            refuse(
                ("demand_share",), "leak_share and demand_share together must leave a tenth of the rated flow"
            )
        until_h = 0.0
        for number, leak in enumerate(self.leaks):
            if leak.after_h < until_h:
                refuse(("leaks", number, "after_h"), "leaks must follow one another")
            until_h = leak.after_h + leak.for_h
        return self

    def spec(self, calendar: Calendar, start_ms: int) -> CompressorSpec:
        """Return its physics; its life begins at ``start_ms``."""
        return CompressorSpec(
            self.cell,
            calendar,
            rated_flow=self.rated_flow,
            variable_speed=self.variable_speed,
            leak_share=self.leak_share,
            demand_share=self.demand_share,
            leaks=tuple(
                AirLeak(
                    start_ms + round(leak.after_h * _H_MS),
                    start_ms + round((leak.after_h + leak.for_h) * _H_MS),
                    leak.severity,
                )
                for leak in self.leaks
            ),
        )


def _check_batch(batch: tuple[int, int]) -> None:
    if not 1 <= batch[0] <= batch[1]:
        refuse(("batch",), "a batch is [least, most], both at least 1")
