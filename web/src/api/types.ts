/** The JSON that `/api/v1` speaks. Field names are the server's; lengths are millimetres, points patient space (LPS). */

export type Language = "en" | "zh";
/** `prior`: only fetched to compare another study with it; on its own page, never in the list. */
export type StudyState = "arriving" | "settling" | "running" | "ready" | "signed" | "delivered" | "failed" | "prior";
export type RunState = "queued" | "running" | "done" | "abstained" | "failed";
export type Urgency = "routine" | "priority" | "stat";
export type FindingState = "proposed" | "accepted" | "edited" | "rejected";
export type Point3 = [number, number, number];

export interface Person {
  id: string;
  name: string;
  roles: string[];
}

export interface Session {
  person: Person | null;
  csrf: string | null;
  demo: boolean;
  version: string;
}

export interface WorklistRow {
  study_instance_uid: string;
  patient_id: string;
  /** DICOM PN, component groups separated by `=`. */
  patient_name: string;
  birth_date: string | null;
  sex: string;
  study_date: string;
  study_time: string;
  accession_number: string;
  description: string;
  modalities: string[];
  instance_count: number;
  series_count: number;
  state: StudyState;
  step: string;
  fraction: number;
  urgency: Urgency;
  urgency_reason: string;
  /** Why it failed, or what the reader should know: no agent, images after signing, what was not delivered. */
  reason: string;
  finding_count: number;
  undecided: number;
  received_at: string;
  priors: number;
  /** Images with a known identifier but other bytes. */
  kept_aside: number;
  /** How often the patient data were corrected since the images came. */
  corrected: number;
}

export interface WorklistPage {
  rows: WorklistRow[];
  next_cursor: string | null;
  total: number;
}

export interface StudyEvent {
  study_instance_uid: string;
  state: StudyState;
  step: string;
  fraction: number;
  /** How often the patient data were corrected. */
  corrected: number;
}

export interface Series {
  series_instance_uid: string;
  modality: string;
  series_number: number | null;
  description: string;
  body_part: string;
  instance_count: number;
  derived: boolean;
}

export interface Fact {
  name: string;
  value: string | number | boolean | null;
}

export interface Run {
  id: string;
  agent_id: string;
  agent_version: string;
  agent_title: string;
  state: RunState;
  step: string;
  fraction: number;
  attempt: number;
  reason: string;
  series_instance_uid: string;
  facts: Fact[];
  not_assessed: string[];
  seconds: [string, number][];
  /** Findings that did not pass the checks. */
  withheld: { finding_id: string; title: string; reason: string }[];
}

export interface Code {
  system: string;
  code: string;
  display: string;
}

export interface ImageReference {
  series_instance_uid: string;
  sop_class_uid: string;
  sop_instance_uid: string;
  frame: number;
}

export interface Contour {
  image: ImageReference;
  points_mm: Point3[];
}

export interface Region {
  frame_of_reference_uid: string;
  centre_mm: Point3;
  bounds_mm: [Point3, Point3] | null;
  contours: Contour[];
  mask: string;
  segment: number;
}

export interface Measurement {
  code: Code;
  value: number;
  unit: string;
  method: string;
}

export interface Attribute {
  code: Code;
  value: Code;
}

export interface Rule {
  id: string;
  citation: string;
  result: string;
}

export interface Finding {
  id: string;
  study_instance_uid: string;
  code: Code;
  source: { kind: "agent" | "person"; id: string; version: string };
  state: FindingState;
  body_site: Code | null;
  laterality: Code | null;
  region: Region | null;
  measurements: Measurement[];
  attributes: Attribute[];
  confidence: number | null;
  limits: string[];
  evidence: { images: ImageReference[]; rules: Rule[]; prior_finding_ids: string[] };
  note: string;
}

export interface FindingView {
  finding: Finding;
  version: number;
  title: string;
  /** The finding's limits in the language asked for. */
  limits: string[];
  decided_by: string | null;
  decided_at: string | null;
  reason: string;
}

export interface Signature {
  person_name: string;
  at: string;
  sha256: string;
}

/** A signature of one revision; images that came later made the next revision. */
export interface SignedRevision extends Signature {
  revision: number;
}

export interface Prior {
  study_instance_uid: string;
  study_date: string;
  description: string;
  modalities: string[];
}

export interface PatientIdentity {
  patient_id: string;
  issuer: string;
  /** DICOM PN. */
  name: string;
  birth_date: string | null;
  sex: string;
}

/** One correction of the patient data of a study. */
export interface IdentityStep {
  at: string;
  source: string;
  before: PatientIdentity;
  after: PatientIdentity;
}

export interface Study {
  row: WorklistRow;
  revision: number;
  evidence: string;
  series: Series[];
  runs: Run[];
  findings: FindingView[];
  priors: Prior[];
  /** Of the newest revision. */
  signature: Signature | null;
  /** Every signature, first one first. */
  signed_revisions: SignedRevision[];
  /** Oldest first; empty for nearly every study. */
  identity_history: IdentityStep[];
}

export type Attenuation = "solid" | "part-solid" | "ground-glass" | "calcified";

export interface FindingEdit {
  long_axis_mm?: number;
  short_axis_mm?: number;
  attenuation?: Attenuation;
  note?: string;
}

export interface Decision {
  decision: "accept" | "reject" | "edit" | "reopen";
  version: number;
  reason?: string;
  edit?: FindingEdit;
}

export interface Axis {
  image: ImageReference;
  points_mm: [Point3, Point3];
}

export interface NewFinding {
  long_axis: Axis;
  short_axis?: Axis;
  attenuation?: Attenuation;
  note?: string;
}

export interface ReportSentence {
  text: string;
  finding_ids: string[];
  rules: Rule[];
  basis: string;
}

export interface ReportSection {
  id: string;
  title: string;
  sentences: ReportSentence[];
}

export interface Report {
  state: "draft" | "final";
  revision: number;
  language: Language;
  undecided: number;
  sections: ReportSection[];
  signature: Signature | null;
  /** The language that was signed, when this text is another one. */
  translation_of: Language | null;
  content_sha256: string;
}

export interface DerivedObject {
  kind: "SEG" | "SR" | "KO" | "PDF";
  series_instance_uid: string;
  sop_instance_uid: string;
  description: string;
  size_bytes: number;
  created_at: string;
}

export interface Delivery {
  /** Names it where it is sent again. */
  key: string;
  destination: string;
  kind: string;
  state: "queued" | "sent" | "failed";
  attempts: number;
  reason: string;
}
