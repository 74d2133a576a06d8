/** A small picture of an image without the graphics card: nearest sampling through a window. Pure. */

export interface Pixels {
  columns: number;
  rows: number;
  /** One value per pixel, or three or four for colour. */
  data: ArrayLike<number>;
  lower: number;
  upper: number;
  inverted: boolean;
  /** Height of a pixel over its width. */
  aspect: number;
}

/** RGBA bytes of a `side` x `side` picture, the image fitted into it, black around. */
export function shade(pixels: Pixels, side: number): Uint8ClampedArray<ArrayBuffer> {
  const out = new Uint8ClampedArray(side * side * 4);
  const { columns, rows, data, lower, upper, inverted, aspect } = pixels;
  const samples = Math.max(1, Math.round(data.length / (columns * rows)));
  const step = Math.max(columns, rows * aspect) / side;
  const left = (side - columns / step) / 2;
  const top = (side - (rows * aspect) / step) / 2;
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const column = Math.floor((x + 0.5 - left) * step);
      const row = Math.floor(((y + 0.5 - top) * step) / aspect);
      const at = (y * side + x) * 4;
      out[at + 3] = 255;
      if (column < 0 || row < 0 || column >= columns || row >= rows) continue;
      const from = (row * columns + column) * samples;
      for (let c = 0; c < 3; c++) {
        const value = data[from + (samples >= 3 ? c : 0)] ?? lower;
        const grey = samples >= 3 ? value : ((value - lower) / Math.max(1e-6, upper - lower)) * 255;
        out[at + c] = inverted ? 255 - grey : grey;
      }
    }
  }
  return out;
}
