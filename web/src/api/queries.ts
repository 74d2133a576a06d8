/** What the pages read and change, as TanStack queries. Keys start with the noun so that events can invalidate them. */
import {
  type QueryClient, type UseMutationResult, useInfiniteQuery, useMutation, useMutationState, useQuery, useQueryClient,
} from "@tanstack/react-query";
import { ApiError, api } from "./client";
import type { Decision, FindingState, FindingView, Language, NewFinding, Report, Session, Study } from "./types";

export const SESSION_KEY = ["session"] as const;

const retryUnlessAnswered = (count: number, error: Error): boolean =>
  count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500);

export const useSession = () => useQuery({ queryKey: SESSION_KEY, queryFn: api.session, staleTime: 5 * 60_000, retry: retryUnlessAnswered });

export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ name, password }: { name: string; password: string }) => api.signIn(name, password),
    onSuccess: (session: Session) => client.setQueryData(SESSION_KEY, session),
  });
}

export function useSignOut() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: api.signOut,
    onSuccess: async () => {
      client.clear();
      await client.fetchQuery({ queryKey: SESSION_KEY, queryFn: api.session });
    },
  });
}

export const useWorklist = (search: string, state: string) =>
  useInfiniteQuery({
    queryKey: ["worklist", search, state],
    queryFn: ({ pageParam }) => api.worklist({ search, state, cursor: pageParam }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: (previous) => previous,
    retry: retryUnlessAnswered,
    // Events may be lost behind a proxy that buffers; the list still comes true within half a minute.
    refetchInterval: 30_000,
  });

export const useStudy = (uid: string, lang: Language) =>
  useQuery({
    queryKey: ["study", uid, lang],
    queryFn: () => api.study(uid, lang),
    // Events tell of changes of state; this catches a decision made elsewhere that changes no count.
    refetchInterval: 15_000,
    placeholderData: (previous) => (previous?.row.study_instance_uid === uid ? previous : undefined),
    retry: retryUnlessAnswered,
  });

export const useReport = (uid: string, lang: Language) =>
  useQuery({
    queryKey: ["report", uid, lang],
    queryFn: () => api.report(uid, lang),
    refetchInterval: 15_000,
    placeholderData: (previous) => previous,
    retry: retryUnlessAnswered,
  });

/** `underWay`: signed, and not everything is made and sent yet. */
export const useObjects = (uid: string, underWay: boolean) =>
  useQuery({
    queryKey: ["objects", uid],
    queryFn: () => api.objects(uid),
    retry: retryUnlessAnswered,
    refetchInterval: underWay ? 2_000 : false,
  });

export const useDeliveries = (uid: string, underWay: boolean) =>
  useQuery({
    queryKey: ["deliveries", uid],
    queryFn: () => api.deliveries(uid),
    retry: retryUnlessAnswered,
    refetchInterval: (query) => (underWay || query.state.data?.some((d) => d.state === "queued") ? 2_000 : false),
  });

/** Forget what is known of one study, so that every open part of the page reads it again. */
export function rereadStudy(client: QueryClient, uid: string): Promise<unknown> {
  return Promise.all(
    ["study", "report", "objects", "deliveries"].map((noun) => client.invalidateQueries({ queryKey: [noun, uid] })),
  );
}

const STATE_AFTER: Record<Decision["decision"], FindingState> = {
  accept: "accepted",
  reject: "rejected",
  edit: "edited",
  reopen: "proposed",
};

function replaceFinding(study: Study | undefined, view: FindingView): Study | undefined {
  if (study === undefined) return undefined;
  const known = study.findings.some((f) => f.finding.id === view.finding.id);
  const findings = known
    ? study.findings.map((f) => (f.finding.id === view.finding.id ? view : f))
    : [...study.findings, view];
  return { ...study, findings };
}

export interface DecideVariables {
  view: FindingView;
  decision: Decision["decision"];
  reason?: string;
  edit?: Decision["edit"];
}

/** Decisions that the server has not answered yet, oldest first. */
export const usePendingDecisions = (uid: string): DecideVariables[] =>
  useMutationState({
    filters: { mutationKey: ["decide", uid], status: "pending" },
    select: (mutation) => mutation.state.variables as DecideVariables,
  });

/** What the reader has decided shows at once, whatever older answers still come in. */
export function withPending(findings: readonly FindingView[], pending: readonly DecideVariables[]): FindingView[] {
  return findings.map((view) => {
    const last = pending.findLast((p) => p.view.finding.id === view.finding.id);
    if (last === undefined) return view;
    return { ...view, reason: last.reason ?? "", finding: { ...view.finding, state: STATE_AFTER[last.decision] } };
  });
}

/** Decide on a finding. `withPending` shows it at once; a refusal of the server takes it back and re-reads. */
export function useDecide(uid: string, lang: Language): UseMutationResult<FindingView, Error, DecideVariables> {
  const client = useQueryClient();
  return useMutation({
    mutationKey: ["decide", uid],
    mutationFn: ({ view, decision, reason, edit }: DecideVariables) => {
      const body: Decision = { decision, version: view.version };
      if (reason !== undefined) body.reason = reason;
      if (edit !== undefined) body.edit = edit;
      return api.decide(uid, view.finding.id, body, lang);
    },
    onSuccess: async (view) => {
      // A read that began before the decision must not come in after it.
      await client.cancelQueries({ queryKey: ["study", uid] });
      client.setQueryData<Study>(["study", uid, lang], (study) => replaceFinding(study, view));
    },
    onSettled: () => rereadStudy(client, uid),
  });
}

export function useAddFinding(uid: string, lang: Language) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (finding: NewFinding) => api.addFinding(uid, finding, lang),
    onSuccess: (view) => client.setQueryData<Study>(["study", uid, lang], (study) => replaceFinding(study, view)),
    onSettled: () => rereadStudy(client, uid),
  });
}

export function useSign(uid: string, lang: Language) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (contentSha256: string) => api.sign(uid, lang, contentSha256),
    onSuccess: (report) => client.setQueryData<Report>(["report", uid, lang], report),
    onSettled: () => rereadStudy(client, uid),
  });
}

export function useRetryRun(uid: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (runId: string) => api.retryRun(uid, runId),
    onSettled: () => rereadStudy(client, uid),
  });
}

/** Take up again what failed as a whole: reading the study, or making objects of its signed report. */
export function useRetryStudy(uid: string) {
  const client = useQueryClient();
  return useMutation({ mutationFn: () => api.retryStudy(uid), onSettled: () => rereadStudy(client, uid) });
}

export function useRetryDelivery(uid: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (key: string) => api.retryDelivery(uid, key),
    onSettled: () => rereadStudy(client, uid),
  });
}
