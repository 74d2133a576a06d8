/** WADO-RS as the viewer and the downloads need it (DICOM PS3.18 10.4). */
import { ApiError } from "./client";

const ROOT = "/dicom-web";

/** One attribute of the DICOM JSON model (PS3.18 F.2). */
export interface DicomAttribute {
  vr: string;
  Value?: unknown[];
}

export type DicomInstance = Record<string, DicomAttribute>;

export async function seriesMetadata(
  studyUid: string,
  seriesUid: string,
  signal?: AbortSignal,
): Promise<DicomInstance[]> {
  const address = `${ROOT}/studies/${studyUid}/series/${seriesUid}/metadata`;
  const response = await fetch(address, {
    headers: { Accept: "application/dicom+json" },
    credentials: "same-origin",
    signal: signal ?? null,
  });
  if (!response.ok) throw new ApiError(response.status, `http.${response.status}`, "");
  return (await response.json()) as DicomInstance[];
}

export function frameAddress(studyUid: string, seriesUid: string, sopUid: string, frame: number): string {
  return `${window.location.origin}${ROOT}/studies/${studyUid}/series/${seriesUid}/instances/${sopUid}/frames/${frame}`;
}

/** The body of the first part of a multipart message (RFC 2046 5.1); the whole body when it has no parts. */
export function firstPart(body: Uint8Array, contentType: string): Uint8Array {
  const boundary = /boundary="?([^";]+)"?/i.exec(contentType)?.[1];
  if (!/^multipart\//i.test(contentType) || boundary === undefined) return body;
  const start = indexOf(body, ascii("\r\n\r\n"), indexOf(body, ascii(`--${boundary}`), 0));
  if (start < 0) return new Uint8Array();
  const end = indexOf(body, ascii(`\r\n--${boundary}`), start + 4);
  return body.subarray(start + 4, end < 0 ? body.length : end);
}

const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

function indexOf(body: Uint8Array, wanted: Uint8Array, from: number): number {
  if (from < 0) return -1;
  outer: for (let i = from; i <= body.length - wanted.length; i++) {
    for (let j = 0; j < wanted.length; j++) if (body[i + j] !== wanted[j]) continue outer;
    return i;
  }
  return -1;
}

/** Fetch one instance as a DICOM file (PS3.10) and hand it to the browser as a download. */
export async function downloadInstance(studyUid: string, seriesUid: string, sopUid: string, name: string): Promise<void> {
  const response = await fetch(`${ROOT}/studies/${studyUid}/series/${seriesUid}/instances/${sopUid}`, {
    headers: { Accept: 'multipart/related; type="application/dicom"; transfer-syntax=*' },
    credentials: "same-origin",
  });
  if (!response.ok) throw new ApiError(response.status, `http.${response.status}`, "");
  const body = new Uint8Array(await response.arrayBuffer());
  const part = firstPart(body, response.headers.get("Content-Type") ?? "");
  const address = URL.createObjectURL(new Blob([part.slice()], { type: "application/dicom" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  URL.revokeObjectURL(address);
}
