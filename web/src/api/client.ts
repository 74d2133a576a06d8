/** Calls to `/api/v1`. The session lives in an HttpOnly cookie; the CSRF token is remembered here. */
import type {
  Decision, Delivery, DerivedObject, FindingView, Language, NewFinding, Report, Run, Session, Study, WorklistPage,
} from "./types";

/** An answer other than 2xx. `code` is stable; `message` is written for the person and says what to do. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }

  /** Somebody else changed it first: read again. */
  get isConflict(): boolean {
    return this.status === 409;
  }

  /** The server could not be reached at all. */
  get isOffline(): boolean {
    return this.status === 0;
  }
}

const ROOT = "/api/v1";
let csrfToken: string | null = null;
let onSignedOut: () => void = () => undefined;

/** Called whenever the server answers 401 to a call other than signing in. */
export function setSignedOutListener(listener: () => void): void {
  onSignedOut = listener;
}

async function errorFrom(response: Response): Promise<ApiError> {
  let code = `http.${response.status}`;
  let message = "";
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null) {
      const fields = body as Record<string, unknown>;
      if (typeof fields.code === "string") code = fields.code;
      if (typeof fields.message === "string") message = fields.message;
    }
  } catch {
    // A proxy's HTML page, say: the status code is then all there is to tell.
  }
  return new ApiError(response.status, code, message);
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && csrfToken !== null) headers["X-CSRF-Token"] = csrfToken;
  let response: Response;
  try {
    response = await fetch(ROOT + path, {
      method,
      headers,
      credentials: "same-origin",
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "network.unreachable", "");
  }
  if (!response.ok) {
    const error = await errorFrom(response);
    if (response.status === 401 && path !== "/session") onSignedOut();
    throw error;
  }
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

async function sessionCall(method: string, body?: unknown): Promise<Session> {
  const session = await call<Session | undefined>(method, "/session", body);
  if (session === undefined) return call<Session>("GET", "/session");
  csrfToken = session.csrf;
  return session;
}

const study = (uid: string): string => `/studies/${encodeURIComponent(uid)}`;

export const api = {
  session: () => sessionCall("GET"),
  signIn: (name: string, password: string) => sessionCall("POST", { name, password }),
  signOut: () => call<unknown>("DELETE", "/session"),
  worklist: (filter: { search: string; state: string; cursor: string | null }) => {
    const query = new URLSearchParams({ limit: "100" });
    if (filter.search !== "") query.set("search", filter.search);
    if (filter.state !== "") query.set("state", filter.state);
    if (filter.cursor !== null) query.set("cursor", filter.cursor);
    return call<WorklistPage>("GET", `/worklist?${query}`);
  },
  study: (uid: string, lang: Language) => call<Study>("GET", `${study(uid)}?lang=${lang}`),
  decide: (uid: string, findingId: string, decision: Decision, lang: Language) =>
    call<FindingView>("POST", `${study(uid)}/findings/${encodeURIComponent(findingId)}/decision?lang=${lang}`, decision),
  addFinding: (uid: string, finding: NewFinding, lang: Language) =>
    call<FindingView>("POST", `${study(uid)}/findings?lang=${lang}`, finding),
  report: (uid: string, lang: Language) => call<Report>("GET", `${study(uid)}/report?lang=${lang}`),
  sign: (uid: string, lang: Language, contentSha256: string) =>
    call<Report>("POST", `${study(uid)}/report/sign`, { lang, content_sha256: contentSha256 }),
  objects: (uid: string) => call<DerivedObject[]>("GET", `${study(uid)}/objects`),
  deliveries: (uid: string) => call<Delivery[]>("GET", `${study(uid)}/deliveries`),
  retryRun: (uid: string, runId: string) => call<Run>("POST", `${study(uid)}/runs/${encodeURIComponent(runId)}/retry`, {}),
  retryStudy: (uid: string) => call<unknown>("POST", `${study(uid)}/retry`, {}),
  retryDelivery: (uid: string, key: string) =>
    call<Delivery>("POST", `${study(uid)}/deliveries/${encodeURIComponent(key)}/retry`, {}),
};

/** Without a revision, of the newest. */
export const reportPdfAddress = (uid: string, lang: Language, revision?: number): string =>
  `${ROOT}${study(uid)}/report.pdf?lang=${lang}${revision === undefined ? "" : `&revision=${revision}`}`;

export const eventsAddress = `${ROOT}/events`;
