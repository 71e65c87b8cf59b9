"""Units as OPC UA states them, in UCUM."""

from __future__ import annotations

from typing import Final

# UN/ECE Recommendation 20 common codes and what UCUM calls them; those that machines and their surroundings use.
_UCUM: Final = {
    "CEL": "Cel",
    "FAH": "[degF]",
    "KEL": "K",
    "BAR": "bar",
    "MBR": "mbar",
    "PAL": "Pa",
    "KPA": "kPa",
    "MPA": "MPa",
    "PS": "[psi]",
    "MMT": "mm",
    "CMT": "cm",
    "MTR": "m",
    "4H": "um",
    "INH": "[in_i]",
    "MMK": "mm2",
    "CMK": "cm2",
    "MTK": "m2",
    "MMQ": "mm3",
    "CMQ": "cm3",
    "MTQ": "m3",
    "MLT": "mL",
    "LTR": "L",
    "SEC": "s",
    "C26": "ms",
    "MIN": "min",
    "HUR": "h",
    "DAY": "d",
    "HTZ": "Hz",
    "KHZ": "kHz",
    "RPM": "{rev}/min",
    "RPS": "{rev}/s",
    "C16": "mm/s",
    "MTS": "m/s",
    "2M": "cm/s",
    "2X": "m/min",
    "KMH": "km/h",
    "2J": "cm3/s",
    "L2": "L/min",
    "E32": "L/h",
    "MQH": "m3/h",
    "MQS": "m3/s",
    "GRM": "g",
    "MGM": "mg",
    "KGM": "kg",
    "TNE": "t",
    "E93": "kg/h",
    "KGS": "kg/s",
    "KMQ": "kg/m3",
    "23": "g/cm3",
    "NEW": "N",
    "B47": "kN",
    "NU": "N.m",
    "JOU": "J",
    "KJO": "kJ",
    "WHR": "W.h",
    "KWH": "kW.h",
    "MWH": "MW.h",
    "WTT": "W",
    "KWT": "kW",
    "MAW": "MW",
    "D46": "V.A",
    "KVA": "kV.A",
    "D44": "var",
    "KVR": "kvar",
    "VLT": "V",
    "KVT": "kV",
    "2Z": "mV",
    "AMP": "A",
    "4K": "mA",
    "OHM": "Ohm",
    "P1": "%",
    "59": "[ppm]",
    "2N": "dB",
    "DD": "deg",
    "C81": "rad",
    "C62": "1",
    "H87": "1",
    "LUX": "lx",
}


def ucum(unit_id: int, display_name: str) -> str:
    """Return the unit of an EUInformation (Part 8 §5.6.3).

    Args:
        unit_id: the bytes of a UN/ECE code, the first the most significant; 0 or -1 where there is none.
        display_name: what stands beside it, which counts where the code is not known here.
    """
    code = unit_id.to_bytes(4, "big", signed=True).lstrip(b"\0") if -(2**31) <= unit_id < 2**31 else b""
    return _UCUM.get(code.decode("ascii", "replace"), display_name.strip()[:100])
