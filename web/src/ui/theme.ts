/** Dark reading theme. Text on every panel reaches 4.5:1 (WCAG 2.2 AA); colours of meaning are in `theme.css`. */
import { type MantineColorsTuple, createTheme } from "@mantine/core";

const slate: MantineColorsTuple = [
  "#dbe2e9", "#c3ccd5", "#aab6c2", "#8795a3", "#35424f", "#2a343e", "#171e26", "#10151b", "#0c1116", "#090c10",
];
const cyan: MantineColorsTuple = [
  "#e3f5fc", "#c5e8f6", "#9ad6ee", "#6cc5e9", "#4db4dd", "#33a3d0", "#2489b3", "#1d6f92", "#165672", "#0f3d52",
];

export const theme = createTheme({
  primaryColor: "cyan",
  primaryShade: 7,
  colors: { dark: slate, cyan },
  fontFamily:
    '"Inter", "Segoe UI", "Helvetica Neue", "Noto Sans", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif',
  fontSizes: { xs: "11px", sm: "12.5px", md: "13.5px", lg: "15px", xl: "18px" },
  defaultRadius: 4,
  cursorType: "pointer",
  components: {
    Tooltip: { defaultProps: { openDelay: 400, withArrow: true, color: "dark.5", c: "dark.0" } },
    Modal: { defaultProps: { centered: true, overlayProps: { backgroundOpacity: 0.6 }, transitionProps: { duration: 120 } } },
  },
});
