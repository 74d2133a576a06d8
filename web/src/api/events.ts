/** Live changes by server-sent events: rows move at once, details are read again at a bounded rate. */
import { type InfiniteData, type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { eventsAddress } from "./client";
import { rereadStudy } from "./queries";
import type { Study, StudyEvent, WorklistPage } from "./types";

const REREAD_EVERY_MS = 700;

/** The page with that study's progress replaced; the same object when the study is not on it. */
export function withProgress(page: WorklistPage, event: StudyEvent): WorklistPage {
  if (!page.rows.some((row) => row.study_instance_uid === event.study_instance_uid)) return page;
  return {
    ...page,
    rows: page.rows.map((row) => (row.study_instance_uid === event.study_instance_uid ? { ...row, ...event } : row)),
  };
}

/** Collects calls and makes at most one every `everyMs`, the last one always. */
export function throttled(action: () => void, everyMs: number): { call: () => void; stop: () => void } {
  let timer: ReturnType<typeof setTimeout> | null = null;
  let again = false;
  const tick = (): void => {
    timer = null;
    if (again) {
      again = false;
      action();
      timer = setTimeout(tick, everyMs);
    }
  };
  return {
    call: () => {
      if (timer !== null) {
        again = true;
        return;
      }
      action();
      timer = setTimeout(tick, everyMs);
    },
    stop: () => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      again = false;
    },
  };
}

function apply(client: QueryClient, event: StudyEvent): void {
  client.setQueriesData<InfiniteData<WorklistPage>>({ queryKey: ["worklist"] }, (data) =>
    data === undefined ? data : { ...data, pages: data.pages.map((page) => withProgress(page, event)) },
  );
  client.setQueriesData<Study>({ queryKey: ["study", event.study_instance_uid] }, (study) =>
    study === undefined ? study : { ...study, row: { ...study.row, ...event } },
  );
}

/** Listen as long as the component lives. Returns whether the connection is up. */
export function useLiveUpdates(enabled: boolean): boolean {
  const client = useQueryClient();
  const [connected, setConnected] = useState(true);
  useEffect(() => {
    if (!enabled) return undefined;
    const source = new EventSource(eventsAddress);
    const list = throttled(() => void client.invalidateQueries({ queryKey: ["worklist"] }), REREAD_EVERY_MS);
    const studies = new Set<string>();
    const details = throttled(() => {
      for (const uid of studies) void rereadStudy(client, uid);
      studies.clear();
    }, REREAD_EVERY_MS);
    let opened = false;
    source.onopen = () => {
      setConnected(true);
      // What happened while the line was down is unknown: read everything that is on the screen again.
      if (opened) void client.invalidateQueries();
      opened = true;
    };
    source.onerror = () => setConnected(false);
    source.addEventListener("study", (message: MessageEvent<string>) => {
      const event = JSON.parse(message.data) as StudyEvent;
      apply(client, event);
      studies.add(event.study_instance_uid);
      list.call();
      details.call();
    });
    return () => {
      list.stop();
      details.stop();
      source.close();
    };
  }, [client, enabled]);
  return connected;
}
