/** Where in the stack one is, how much of it is here, and where findings lie: a scroll bar that tells something. */
import { type PointerEvent, type ReactElement, useRef } from "react";
import { useTranslation } from "react-i18next";
import type { NumberedFinding } from "./pane";

export function SliceBar({ count, index, loaded, marks, selectedId, onGo, onSelect }: {
  count: number;
  index: number;
  loaded: number;
  marks: readonly (NumberedFinding & { index: number | null })[];
  selectedId: string | null;
  onGo: (index: number) => void;
  onSelect: (findingId: string) => void;
}): ReactElement | null {
  const { t } = useTranslation();
  const track = useRef<HTMLDivElement>(null);
  if (count < 2) return null;
  const at = (i: number): string => `${((i + 0.5) / count) * 100}%`;
  const go = (event: PointerEvent): void => {
    const box = track.current?.getBoundingClientRect();
    if (box === undefined || event.buttons !== 1) return;
    onGo(Math.floor(((event.clientY - box.top) / box.height) * count));
  };
  return (
    <div className="slicebar" ref={track} role="slider" tabIndex={-1} aria-orientation="vertical"
      aria-label={t("viewer.slice")} aria-valuemin={1} aria-valuemax={count} aria-valuenow={index + 1}
      title={t("viewer.loadedImages", { loaded, total: count })}
      onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); go(event); }} onPointerMove={go}>
      <i className="here" style={{ transform: `scaleY(${loaded / count})` }} data-loaded={loaded} />
      {marks.map((mark) => mark.index === null ? null : (
        <button key={mark.finding.id} type="button" tabIndex={-1} className="plain tick" data-state={mark.finding.state}
          data-selected={mark.finding.id === selectedId} style={{ top: at(mark.index) }}
          onPointerDown={(event) => event.stopPropagation()} onClick={() => onSelect(mark.finding.id)}>
          <span className="visually-hidden">{mark.number}</span>
        </button>
      ))}
      <b className="thumb" style={{ top: at(index) }} />
    </div>
  );
}
