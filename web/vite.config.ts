import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

const server = process.env.POLYCLINIC_SERVER ?? "http://127.0.0.1:8042";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    target: "es2022",
    // The viewer is one lazily loaded chunk of about 4 MB; the warning would say nothing new.
    chunkSizeWarningLimit: 6000,
    // Decoders stay files of their own: the content security policy refuses data: addresses for scripts.
    assetsInlineLimit: 0,
  },
  worker: { format: "es" },
  optimizeDeps: {
    exclude: ["@cornerstonejs/dicom-image-loader"],
    include: ["dicom-parser"],
  },
  server: {
    proxy: { "/api": server, "/dicom-web": server },
  },
  test: { include: ["src/**/*.test.ts", "src/**/*.test.tsx"], environment: "node" },
});
