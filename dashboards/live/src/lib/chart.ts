/** The trend's drawing by ECharts; loaded only when a machine is looked at. */

import { LineChart, type LineSeriesOption } from "echarts/charts";
import { GridComponent, MarkAreaComponent, TooltipComponent } from "echarts/components";
import { init, use, type EChartsCoreOption } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { DASHES } from "./dashes.ts";
import { formatClock, formatClockSeconds, formatTick, formatValue } from "./format.ts";
import type { Point, Span } from "./trend.ts";

use([LineChart, GridComponent, TooltipComponent, MarkAreaComponent, CanvasRenderer]);

export interface Line {
  signal: string;
  label: string;
  unit: string;
  /** Position in the palette of colours. */
  slot: number;
  /** Position in the list of dashes. */
  dash: number;
  points: Point[];
  /** Numbers that stand for words do not pass through the values between them. */
  stepped: boolean;
}

type MarkArea = NonNullable<LineSeriesOption["markArea"]>;

export interface Drawing {
  lines: Line[];
  fromMs: number;
  toMs: number;
  silent: Span[];
  gapLabel: string;
  zone: string;
}

/** The heights of the drawing in TrendPanel.svelte follow from it. */
const PANEL_HEIGHT = 150;
const TOP = 26;

function panelsOf(lines: readonly Line[]): string[] {
  return [...new Set(lines.map(panelOf))];
}

/** Lines of one unit share a panel; a value without a unit has one of its own. */
function panelOf(line: Line): string {
  return line.unit === "" ? line.signal : line.unit;
}

export function openChart(element: HTMLElement) {
  const chart = init(element, null, { renderer: "canvas" });
  const observer = new ResizeObserver(() => chart.resize());
  observer.observe(element);
  let structure = "";
  return {
    draw(drawing: Drawing): void {
      // Merged while the lines stay the same: a tooltip that is being read stays open while the values move.
      const next = JSON.stringify(drawing.lines.map(({ signal, unit, dash }) => [signal, unit, dash]));
      chart.setOption(optionOf(drawing, getComputedStyle(element)), { notMerge: next !== structure, lazyUpdate: true });
      structure = next;
    },
    close(): void {
      observer.disconnect();
      chart.dispose();
    },
  };
}

function optionOf(drawing: Drawing, style: CSSStyleDeclaration): EChartsCoreOption {
  const color = (name: string) => style.getPropertyValue(name).trim();
  const ink = color("--muted");
  const panels = panelsOf(drawing.lines);
  const font = { color: ink, fontFamily: style.fontFamily, fontSize: 12 };
  const last = panels.length - 1;
  return {
    animation: false,
    textStyle: { fontFamily: style.fontFamily },
    axisPointer: { link: [{ xAxisIndex: "all" }] },
    tooltip: {
      trigger: "axis",
      // Drawn on the canvas: nothing that a machine says becomes HTML.
      renderMode: "richText",
      confine: true,
      backgroundColor: color("--panel"),
      borderColor: color("--line"),
      textStyle: { ...font, color: color("--ink") },
      formatter: (hits: unknown) => tooltip(hits, drawing),
    },
    grid: panels.map((_, row) => ({ left: 64, right: 20, top: TOP + row * PANEL_HEIGHT, height: PANEL_HEIGHT - TOP - 14 })),
    xAxis: panels.map((_, row) => ({
      type: "time",
      gridIndex: row,
      min: drawing.fromMs,
      max: drawing.toMs,
      splitNumber: 6,
      axisLine: { lineStyle: { color: color("--line") } },
      axisTick: { show: row === last, lineStyle: { color: color("--line") } },
      axisLabel: { ...font, show: row === last, hideOverlap: true, formatter: (t: number) => axisTime(t, drawing) },
      axisPointer: { lineStyle: { color: ink }, label: { show: false } },
    })),
    yAxis: panels.map((panel, row) => {
      const line = drawing.lines.find((one) => panelOf(one) === panel)!;
      return {
        type: "value",
        gridIndex: row,
        scale: true,
        splitNumber: 3,
        minInterval: line.stepped ? 1 : 0,
        name: line.unit === "" ? line.label : line.unit,
        nameLocation: "end",
        nameGap: 12,
        nameTextStyle: { ...font, align: "left", padding: [0, 0, 0, -56] },
        splitLine: { lineStyle: { color: color("--line") } },
        axisLabel: { ...font, formatter: (value: number) => line.stepped ? formatValue(line.signal, value) : formatTick(value) },
      };
    }),
    series: drawing.lines.map((line, row) => {
      const panel = panels.indexOf(panelOf(line));
      const first = drawing.lines.findIndex((one) => panelOf(one) === panelOf(line)) === row;
      return lineSeries(line, panel, color(`--line-${line.slot}`), first ? markArea(drawing, font, color("--gap")) : { data: [] });
    }),
  };
}

function lineSeries(line: Line, panel: number, color: string, silent: MarkArea): LineSeriesOption {
  return {
    type: "line",
    name: line.label,
    xAxisIndex: panel,
    yAxisIndex: panel,
    data: line.points,
    step: line.stepped ? "end" : false,
    connectNulls: false,
    // A point alone between two gaps would otherwise be invisible.
    showSymbol: true,
    symbol: "circle",
    symbolSize: (_value: unknown, params: { dataIndex: number }) => (isAlone(line.points, params.dataIndex) ? 5 : 0),
    color,
    lineStyle: { width: 1.8, type: DASHES[line.dash % DASHES.length]! },
    emphasis: { disabled: true },
    markArea: silent,
  };
}

function isAlone(points: readonly Point[], row: number): boolean {
  return (points[row - 1]?.[1] ?? null) === null && (points[row + 1]?.[1] ?? null) === null;
}

function markArea(drawing: Drawing, font: object, fill: string): MarkArea {
  const wide = (drawing.toMs - drawing.fromMs) / 12;
  return {
    silent: true,
    itemStyle: { color: fill },
    label: { ...font, position: "inside" },
    data: drawing.silent.map(([from, to]) => [
      { xAxis: from, name: to - from > wide ? drawing.gapLabel : "" },
      { xAxis: to },
    ]),
  };
}

function axisTime(t: number, drawing: Drawing): string {
  return drawing.toMs - drawing.fromMs <= 15 * 60_000 ? formatClockSeconds(t, drawing.zone) : formatClock(t, drawing.zone);
}

function tooltip(hits: unknown, drawing: Drawing): string {
  if (!Array.isArray(hits) || hits.length === 0) return "";
  const rows = hits as { seriesIndex: number; value: Point }[];
  const texts = rows.map(({ seriesIndex, value }) => {
    const line = drawing.lines[seriesIndex];
    if (line === undefined || value[1] === null) return null;
    return `${line.label}: ${formatValue(line.signal, value[1], line.unit)} ${line.unit}`.trim();
  });
  // In richText, braces begin a style: what a person may have named a signal's unit must not.
  const lines = [...new Set(texts.filter((text) => text !== null))].map((text) => text.replaceAll(/[{}|]/g, " "));
  return lines.length === 0 ? "" : [formatClockSeconds(rows[0]!.value[0], drawing.zone), ...lines].join("\n");
}
