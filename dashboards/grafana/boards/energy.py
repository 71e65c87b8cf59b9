"""Energy of a site: power and work by meter, by hour and by day of the site; compressed air and temperature control."""

from __future__ import annotations

from dashboards.grafana.ask import MACHINE_TAGS, Ask, How, signal
from dashboards.grafana.boards.board import SITE, Board, Row, site_variable, zone_variable
from dashboards.grafana.language import Language
from dashboards.grafana.panels import Drawn, Place, now, totals, trend
from shopfloor import reports
from shopfloor import signal as names


def energy(language: Language) -> Board:
    """Return the board of a site's energy."""

    def meters(name: str, how: How = How.MEAN) -> Ask:
        return signal(name, how, MACHINE_TAGS, SITE, "{line}/{cell}")

    def chart(key: str, title: str, name: str, look: str, text: str = "") -> Drawn:
        nothing = "nothing here measures it"
        return trend(language, key, title, [meters(name)], look, Place(8, 7), text=text, nothing=nothing)

    return Board(
        "energy",
        "Shopfloor: energy",
        "Power and energy of the meters of one site. A meter without contact is drawn as a hole, not as zero.",
        [
            Row(
                "Power",
                [
                    now(
                        language,
                        "site-power",
                        "Power of the site",
                        [Ask(reports.SITE, "power_kw", How.NEWEST_SUM, (), SITE, "all meters")],
                        "power",
                        Place(4, 8),
                        text="Of meters with contact.",
                    ),
                    trend(
                        language,
                        "site-trend",
                        "Power of the site",
                        [Ask(reports.SITE, "power_kw", How.MEAN, ("enterprise", "site"), SITE, "{site}")],
                        "power",
                        Place(8, 8),
                    ),
                    trend(
                        language,
                        "power",
                        "Power by meter",
                        [meters(names.ACTIVE_POWER)],
                        "power",
                        Place(12, 8),
                    ),
                ],
            ),
            Row(
                "Energy",
                [
                    trend(
                        language,
                        "hourly",
                        "Energy per hour",
                        [meters(names.ACTIVE_ENERGY, How.RISE)],
                        "energy",
                        Place(12, 8),
                        kind="stacked",
                        finest="1h",
                    ),
                    trend(
                        language,
                        "daily",
                        "Energy per day of the site",
                        [meters(names.ACTIVE_ENERGY, How.DAILY_RISE)],
                        "energy",
                        Place(12, 8),
                        kind="stacked",
                        text="From midnight to midnight at the site. The first day of the span is not whole.",
                    ),
                    totals(
                        language,
                        "registers",
                        "Registers",
                        [meters(names.ACTIVE_ENERGY, How.NEWEST)],
                        "energy",
                        Place(12, 8),
                    ),
                    chart(
                        "factor",
                        "Power factor",
                        "energy.power_factor",
                        "power_factor",
                        text="Below 0.9 reactive power costs.",
                    ),
                ],
            ),
            Row(
                "Feed",
                [
                    chart("voltage", "Voltage", "energy.voltage", "volts"),
                    chart("current", "Current", "energy.current", "amps"),
                ],
            ),
            Row(
                "Compressed air and temperature control",
                [
                    chart("air-pressure", "Air pressure", "compressor.pressure", "bar"),
                    chart("air-flow", "Air flow", "compressor.flow", "air_flow"),
                    chart("air-oil", "Compressor oil", "compressor.oil_temperature", "celsius"),
                    chart(
                        "tcu-power",
                        "Process power of temperature control units",
                        "tcu.process_power",
                        "power",
                    ),
                    chart("tcu-out", "Their outlet", "tcu.temperature", "celsius"),
                    chart("tcu-flow", "Their flow", "tcu.flow_rate", "flow"),
                ],
            ),
        ],
        variables=[site_variable(language, many=False), zone_variable(language)],
        annotated=SITE,
        span="now-24h",
        refresh="1m",
    )
