/** Start Cornerstone3D once, with the tools of the reading room. */
import { Enums, cache, imageLoadPoolManager, imageRetrievalPoolManager, init as initCore } from "@cornerstonejs/core";
import { init as initLoader } from "@cornerstonejs/dicom-image-loader";
import * as tools from "@cornerstonejs/tools";

const MAX_CACHE_BYTES = 1.5e9;

const ALL_TOOLS = [
  tools.WindowLevelTool, tools.PanTool, tools.ZoomTool, tools.StackScrollTool, tools.LengthTool,
  tools.BidirectionalTool, tools.ProbeTool,
];

let started: Promise<void> | null = null;

export function startCornerstone(): Promise<void> {
  started ??= start();
  return started;
}

async function start(): Promise<void> {
  // One WebGL context for all viewports: they share a volume's texture instead of holding one each, and start sooner.
  await initCore({ rendering: { webGlContextCount: 1 }, debug: {} });
  initLoader({ maxWebWorkers: Math.min(4, Math.max(1, Math.floor((navigator.hardwareConcurrency || 2) / 2))) });
  tools.init();
  cache.setMaxCacheSize(MAX_CACHE_BYTES);
  // Few at once: the image that is looked at must not wait behind hundreds that are not.
  for (const pool of [imageLoadPoolManager, imageRetrievalPoolManager]) {
    pool.setMaxSimultaneousRequests(Enums.RequestType.Interaction, 6);
    pool.setMaxSimultaneousRequests(Enums.RequestType.Prefetch, 4);
  }
  for (const tool of ALL_TOOLS) tools.addTool(tool);
  const style = tools.annotation.config.style.getDefaultToolStyles();
  tools.annotation.config.style.setDefaultToolStyles({
    ...style,
    global: {
      ...style.global,
      color: "rgb(255, 214, 102)",
      colorHighlighted: "rgb(255, 236, 179)",
      colorSelected: "rgb(255, 236, 179)",
      lineWidth: "1.25",
      textBoxBackground: "rgba(0, 0, 0, 0.6)",
      textBoxFontFamily: "inherit",
      textBoxFontSize: "12px",
      textBoxColor: "rgb(255, 214, 102)",
      textBoxColorHighlighted: "rgb(255, 236, 179)",
      textBoxColorSelected: "rgb(255, 236, 179)",
    },
  });
}

export type ToolChoice = "window" | "pan" | "zoom" | "crosshair" | "length" | "bidirectional" | "probe";

const TOOL_NAMES: Record<Exclude<ToolChoice, "crosshair">, string> = {
  window: tools.WindowLevelTool.toolName as string,
  pan: tools.PanTool.toolName as string,
  zoom: tools.ZoomTool.toolName as string,
  length: tools.LengthTool.toolName as string,
  bidirectional: tools.BidirectionalTool.toolName as string,
  probe: tools.ProbeTool.toolName as string,
};
export const BIDIRECTIONAL = TOOL_NAMES.bidirectional;
export const LENGTH = TOOL_NAMES.length;
const MEASURING = [TOOL_NAMES.length, TOOL_NAMES.bidirectional, TOOL_NAMES.probe];

/** A tool group in which wheel, middle and right button keep their meaning and `choice` has the left one. */
export function makeToolGroup(id: string): tools.Types.IToolGroup {
  tools.ToolGroupManager.destroyToolGroup(id);
  const group = tools.ToolGroupManager.createToolGroup(id);
  if (group === undefined) throw new Error(`tool group ${id} exists`);
  for (const tool of ALL_TOOLS) group.addTool(tool.toolName as string);
  group.setToolActive(tools.StackScrollTool.toolName as string, {
    bindings: [{ mouseButton: tools.Enums.MouseBindings.Wheel }],
  });
  return group;
}

export function chooseTool(group: tools.Types.IToolGroup, choice: ToolChoice): void {
  const { Primary, Auxiliary, Secondary } = tools.Enums.MouseBindings;
  const chosen = choice === "crosshair" ? null : TOOL_NAMES[choice];
  for (const name of Object.values(TOOL_NAMES)) {
    if (MEASURING.includes(name)) group.setToolPassive(name, { removeAllBindings: true });
    else group.setToolDisabled(name);
  }
  const bindings = (name: string) => [
    ...(name === chosen ? [{ mouseButton: Primary }] : []),
    ...(name === TOOL_NAMES.pan ? [{ mouseButton: Auxiliary }] : []),
    ...(name === TOOL_NAMES.zoom ? [{ mouseButton: Secondary }] : []),
  ];
  for (const name of new Set([TOOL_NAMES.pan, TOOL_NAMES.zoom, ...(chosen === null ? [] : [chosen])])) {
    group.setToolActive(name, { bindings: bindings(name) });
  }
}
