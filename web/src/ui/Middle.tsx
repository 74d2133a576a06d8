import type { ReactElement, ReactNode } from "react";

/** A message in the middle of an otherwise empty place: loading, empty, failed. */
export function Middle({ title, hint, children }: { title?: string; hint?: string; children?: ReactNode }): ReactElement {
  return (
    <div className="middle" role="status">
      {title !== undefined && <h2>{title}</h2>}
      {hint !== undefined && <p>{hint}</p>}
      {children}
    </div>
  );
}
