/** Every study of this node, live, with what the agents made of it. */
import { Button, Loader, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type ReactElement, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useNavigate, useSearchParams } from "react-router";
import { useWorklist } from "../api/queries";
import type { StudyState } from "../api/types";
import { Icon } from "../ui/icons";
import { useKeys } from "../ui/keys";
import { Middle } from "../ui/Middle";
import { WorklistHead, WorklistRowView } from "./WorklistRow";
import "./worklist.css";

const ROW_PX = 38;
const FILTERS: readonly (StudyState | "")[] = ["", "running", "ready", "signed", "delivered", "failed"];

export function WorklistPage(): ReactElement {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const [address, setAddress] = useSearchParams();
  const [search, setSearch] = useState(address.get("search") ?? "");
  const [asked] = useDebouncedValue(search.trim(), 200);
  const state = address.get("state") ?? "";
  const list = useWorklist(asked, state);
  const rows = useMemo(() => list.data?.pages.flatMap((page) => page.rows) ?? [], [list.data]);
  const total = list.data?.pages[0]?.total ?? 0;
  const [chosenUid, setChosenUid] = useState<string | null>(null);
  const chosen = Math.max(0, rows.findIndex((row) => row.study_instance_uid === chosenUid));
  const scroller = useRef<HTMLDivElement>(null);
  const searchBox = useRef<HTMLInputElement>(null);

  const virtual = useVirtualizer({
    count: rows.length, getScrollElement: () => scroller.current, estimateSize: () => ROW_PX, overscan: 12,
    getItemKey: (index) => rows[index]!.study_instance_uid,
  });
  const items = virtual.getVirtualItems();
  const lastShown = items.at(-1)?.index ?? 0;
  useEffect(() => {
    // Fetch the viewer while the reader looks at the list.
    const timer = setTimeout(() => void Promise.all([import("./StudyPage"), import("../viewer/Viewer")]), 400);
    return () => clearTimeout(timer);
  }, []);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = list;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && lastShown >= rows.length - 20) void fetchNextPage();
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, lastShown, rows.length]);

  const filter = (changes: { search?: string; state?: string }): void => {
    const next = new URLSearchParams(address);
    for (const [key, value] of Object.entries(changes)) {
      if (value === "") next.delete(key);
      else next.set(key, value);
    }
    setAddress(next, { replace: true });
  };
  const choose = (index: number): void => {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (row === undefined) return;
    setChosenUid(row.study_instance_uid);
    virtual.scrollToIndex(rows.indexOf(row));
  };
  const open = (uid: string): void => void navigate(`/study/${uid}`);

  useKeys("worklist", {
    rowDown: () => choose(chosenUid === null ? 0 : chosen + 1),
    rowUp: () => choose(chosen - 1),
    rowOpen: () => rows[chosen] !== undefined && open(rows[chosen].study_instance_uid),
    search: () => searchBox.current?.select(),
  });

  return (
    <div className="worklist">
      <div className="worklist-bar">
        <TextInput ref={searchBox} size="xs" w={330} leftSection={<Icon name="search" size={14} />} value={search}
          placeholder={t("worklist.search")} aria-label={t("worklist.search")}
          onChange={(event) => setSearch(event.currentTarget.value)}
          onBlur={() => filter({ search: search.trim() })}
          onKeyDown={(event) => {
            if (event.key === "Escape") setSearch("");
            if (event.key === "Escape" || event.key === "Enter" || event.key === "ArrowDown") event.currentTarget.blur();
          }} />
        <div className="segmented" role="group" aria-label={t("worklist.state")}>
          {FILTERS.map((value) => (
            <button key={value} type="button" className="plain" aria-pressed={state === value} onClick={() => filter({ state: value })}>
              {value === "" ? t("worklist.all") : t(`state.${value}`)}
            </button>
          ))}
        </div>
        <span className="worklist-count" role="status">
          {list.isSuccess && t("worklist.shown", { count: total })}
          {list.isFetching && !list.isPending && <Loader size={12} color="gray" />}
        </span>
      </div>
      <div className="worklist-scroll" ref={scroller} role="grid" aria-rowcount={total} aria-label={t("worklist.title")} tabIndex={-1}>
        <WorklistHead />
        {list.isPending && <Middle title={t("worklist.loading")}><Loader size="sm" /></Middle>}
        {list.isError && rows.length === 0 && (
          <Middle title={t("worklist.failed")} hint={list.error.message}>
            <Button size="xs" variant="default" onClick={() => void list.refetch()}>{t("app.retry")}</Button>
          </Middle>
        )}
        {list.isSuccess && rows.length === 0 && (asked === "" && state === "" ? (
          <Middle title={t("worklist.empty")} hint={t("worklist.emptyHint")} />
        ) : (
          <Middle title={t("worklist.nothingFound")} hint={t("worklist.nothingFoundHint")}>
            <Button size="xs" variant="default" onClick={() => { setSearch(""); filter({ search: "", state: "" }); }}>{t("worklist.clear")}</Button>
          </Middle>
        ))}
        <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {items.map((item) => {
            const row = rows[item.index]!;
            return (
              <WorklistRowView key={item.key} row={row} top={item.start} height={ROW_PX} index={item.index}
                chosen={chosenUid === row.study_instance_uid} onChoose={() => setChosenUid(row.study_instance_uid)}
                onOpen={() => open(row.study_instance_uid)} />
            );
          })}
        </div>
        {isFetchingNextPage && <div className="worklist-more">{t("worklist.loadingMore")}</div>}
      </div>
    </div>
  );
}
