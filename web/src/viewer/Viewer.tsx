/** The centre of the study page: toolbar, one layout of images, and the keys that belong to them. */
import { Tooltip } from "@mantine/core";
import { type ReactElement, type Ref, useCallback, useEffect, useImperativeHandle, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Finding, NewFinding, Point3 } from "../api/types";
import { type Action, hint, useKeys } from "../ui/keys";
import { Icon, type IconName } from "../ui/icons";
import type { ToolChoice } from "./cornerstone";
import { MprPane } from "./MprPane";
import type { CornerText, NumberedFinding, PaneHandle } from "./pane";
import { PRESETS, type Range, presetOf } from "./presets";
import type { ImageSeries } from "./series";
import { StackPane } from "./StackPane";
import "./viewer.css";

export interface ViewerHandle {
  /** Show a finding again even when it is the selected one already. */
  show(finding: Finding): void;
}

const TOOLS: readonly { choice: ToolChoice; icon: IconName; action: Action }[] = [
  { choice: "window", icon: "window", action: "toolWindow" },
  { choice: "pan", icon: "pan", action: "toolPan" },
  { choice: "zoom", icon: "zoom", action: "toolZoom" },
  { choice: "length", icon: "length", action: "toolLength" },
  { choice: "bidirectional", icon: "bidirectional", action: "toolBidirectional" },
  { choice: "probe", icon: "probe", action: "toolProbe" },
  { choice: "crosshair", icon: "crosshair", action: "toolCrosshair" },
];

export default function Viewer({ series, findings, selected, corner, startWindow, onSelect, onMeasured, onNotice, ref }: {
  series: ImageSeries;
  findings: readonly NumberedFinding[];
  selected: Finding | null;
  corner: CornerText;
  startWindow: Range | null;
  onSelect: (findingId: string) => void;
  onMeasured: (finding: NewFinding) => void;
  onNotice: (text: string) => void;
  ref?: Ref<ViewerHandle>;
}): ReactElement {
  const { t } = useTranslation();
  const pane = useRef<PaneHandle | null>(null);
  const [layout, setLayout] = useState<"stack" | "mpr">("stack");
  const [tool, setTool] = useState<ToolChoice>("window");
  const [contours, setContours] = useState(true);
  const [close, setClose] = useState(true);
  const [window, setWindow] = useState<Range | null>(startWindow);
  const place = useRef<Point3 | null>(selected?.region?.centre_mm ?? null);
  const shown = useRef<string | null>(null);
  const mpr = layout === "mpr" && series.volumetric;

  const show = useCallback((finding: Finding, closely: boolean) => {
    shown.current = finding.id;
    pane.current?.show(finding, closely);
  }, []);

  useEffect(() => {
    if (selected !== null && shown.current !== selected.id) show(selected, close);
    if (selected === null) shown.current = null;
  }, [selected, close, show]);
  useImperativeHandle(ref, () => ({ show: (finding) => show(finding, close) }), [close, show]);

  const changeLayout = (next: "stack" | "mpr"): void => {
    if (next === layout) return;
    place.current = pane.current?.place() ?? place.current;
    setLayout(next);
    setTool(next === "mpr" ? "crosshair" : "window");
  };
  const fit = (): void => {
    setClose(!close);
    if (selected !== null) show(selected, !close);
    else pane.current?.reset();
  };
  const measure = (): void => {
    const made = pane.current?.measurement() ?? "none";
    if (made === "none") onNotice(t("viewer.measureFirst"));
    else if (made === "wrong-layout") onNotice(t("viewer.measureOnStack"));
    else onMeasured(made);
  };
  const onReady = useCallback(() => {
    if (selected !== null) show(selected, close);
  }, [selected, close, show]);

  const handlers: Partial<Record<Action, () => void>> = {
    nextSlice: () => pane.current?.step(1),
    previousSlice: () => pane.current?.step(-1),
    firstSlice: () => pane.current?.toEnd("first"),
    lastSlice: () => pane.current?.toEnd("last"),
    layout: () => series.volumetric && changeLayout(mpr ? "stack" : "mpr"),
    removeMeasurements: () => pane.current?.removeMeasurements(),
    invert: () => pane.current?.invert(),
    reset: () => pane.current?.reset(),
    contours: () => setContours((on) => !on),
    measureToFinding: measure,
    fit,
  };
  for (const { choice, action } of TOOLS) handlers[action] = () => (choice !== "crosshair" || mpr) && setTool(choice);
  for (const { action, range } of PRESETS) handlers[action] = () => pane.current?.setWindow(range);
  useKeys("study", handlers);

  const button = (action: Action, icon: IconName, label: string, pressed?: boolean, disabled = false): ReactElement => (
    <Tooltip key={action} label={`${label}  [${hint(action)}]`} position="bottom">
      <button type="button" className="plain tool" aria-label={label} aria-pressed={pressed} aria-disabled={disabled}
        onClick={() => !disabled && handlers[action]?.()}>
        <Icon name={icon} />
      </button>
    </Tooltip>
  );
  const preset = window === null ? null : presetOf(window);
  const Pane = mpr ? MprPane : StackPane;
  return (
    <section className="viewer" aria-label={t("keys.groups.viewer")}>
      <div className="toolbar" role="toolbar">
        <div className="segmented">
          <button type="button" className="plain" aria-pressed={!mpr} onClick={() => changeLayout("stack")}>{t("viewer.stack")}</button>
          <Tooltip label={series.volumetric ? `${t("viewer.mpr")}  [${hint("layout")}]` : t("viewer.mprNotPossible")} position="bottom">
            <button type="button" className="plain" aria-pressed={mpr} aria-disabled={!series.volumetric}
              onClick={() => series.volumetric && changeLayout("mpr")}>{t("viewer.mpr")}</button>
          </Tooltip>
        </div>
        <span className="gap" />
        {TOOLS.map(({ choice, icon, action }) =>
          button(action, icon, t(`viewer.tools.${choice}`), tool === choice, choice === "crosshair" && !mpr))}
        <span className="gap" />
        {button("measureToFinding", "plus", t("viewer.measureToFinding"))}
        {button("removeMeasurements", "trash", t("viewer.removeMeasurements"))}
        <span className="gap" />
        <div className="segmented presets" aria-label={t("viewer.window")}>
          {PRESETS.map(({ name, action, range }) => (
            <button key={name} type="button" className="plain" aria-pressed={preset === name} title={`${t(`keys.${action}`)}  [${hint(action)}]`}
              onClick={() => pane.current?.setWindow(range)}>{t(`viewer.presets.${name}`)}</button>
          ))}
        </div>
        <span className="spacer" />
        {button("contours", "contours", t("viewer.contours"), contours)}
        {button("fit", "fit", t("viewer.fit"), close)}
        {button("invert", "invert", t("viewer.invert"))}
        {button("reset", "reset", t("viewer.reset"))}
      </div>
      <div className="panes">
        <Pane key={`${series.seriesUid} ${mpr}`} handle={pane} series={series} findings={findings} selectedId={selected?.id ?? null}
          tool={tool} contours={contours} window={window} place={place.current} corner={corner} onWindow={setWindow}
          onSelect={onSelect} onReady={onReady} />
      </div>
    </section>
  );
}
