/** Correct a finding: only what was changed is sent. */
import { NativeSelect, TextInput } from "@mantine/core";
import { type FormEvent, type KeyboardEvent, type ReactElement, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Attenuation, Finding, FindingEdit } from "../api/types";
import { type EditFields, editOf } from "./editRules";
import { attenuationOf, longAxisMm, shortAxisMm } from "./findingText";

const TYPES: readonly Attenuation[] = ["solid", "part-solid", "ground-glass", "calcified"];
const shown = (value: number | null): string => (value === null ? "" : value.toFixed(1));

export function EditForm({ finding, onSave, onCancel }: {
  finding: Finding;
  onSave: (edit: FindingEdit) => void;
  onCancel: () => void;
}): ReactElement {
  const { t } = useTranslation();
  const before: EditFields = {
    long: shown(longAxisMm(finding)), short: shown(shortAxisMm(finding)), type: attenuationOf(finding) ?? "", note: finding.note,
  };
  const [now, setNow] = useState(before);
  const [problem, setProblem] = useState<string | null>(null);
  const measured = before.long !== "";
  const submit = (event: FormEvent): void => {
    event.preventDefault();
    const result = editOf(before, now);
    if (typeof result === "string") setProblem(t(`findings.${result}`));
    else onSave(result);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onCancel();
  };
  return (
    <form className="edit-form" onSubmit={submit} onKeyDown={onKeyDown} noValidate>
      {measured && (
        <div className="edit-row">
          <TextInput size="xs" label={t("findings.longAxis")} inputMode="decimal" value={now.long} autoFocus
            onFocus={(e) => e.currentTarget.select()} onChange={(e) => setNow({ ...now, long: e.currentTarget.value })} />
          <TextInput size="xs" label={t("findings.shortAxis")} inputMode="decimal" value={now.short}
            onFocus={(e) => e.currentTarget.select()} onChange={(e) => setNow({ ...now, short: e.currentTarget.value })} />
          <NativeSelect size="xs" label={t("findings.type")} value={now.type}
            onChange={(e) => setNow({ ...now, type: e.currentTarget.value as Attenuation | "" })}
            data={[...(before.type === "" ? [{ value: "", label: "" }] : []), ...TYPES.map((type) => ({ value: type, label: t(`attenuation.${type}`) }))]} />
        </div>
      )}
      <TextInput size="xs" label={t("findings.note")} value={now.note} autoFocus={!measured} maxLength={500}
        onChange={(e) => setNow({ ...now, note: e.currentTarget.value })} />
      {problem !== null && <p role="alert" className="problem">{problem}</p>}
      <div className="acts">
        <button type="submit" className="plain act accept">{t("findings.save")}<kbd>Enter</kbd></button>
        <button type="button" className="plain act" onClick={onCancel}>{t("app.cancel")}<kbd>Esc</kbd></button>
      </div>
    </form>
  );
}
