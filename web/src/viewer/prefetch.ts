/** Load a stack in the order in which it is likely to be looked at, a few images at a time. */

export interface Prefetch {
  /** Look from here on; takes effect with the next image. */
  moveTo(index: number): void;
  stop(): void;
}

/** Index of the missing image nearest to `from`, ahead before behind; -1 when none is missing. */
export function nextMissing(done: readonly boolean[], from: number): number {
  for (let step = 0; step < done.length; step++) {
    if (from + step < done.length && done[from + step] === false) return from + step;
    if (from - step >= 0 && done[from - step] === false) return from - step;
  }
  return -1;
}

/**
 * Keep `atOnce` loads going until all `count` images were asked for once. A failed image is not asked again here: the
 * viewport asks when it is shown, and says so when it fails.
 */
export function startPrefetch(
  count: number,
  load: (index: number) => Promise<unknown>,
  onProgress: (loaded: number) => void,
  atOnce = 4,
): Prefetch {
  const asked = new Array<boolean>(count).fill(false);
  let from = 0;
  let loaded = 0;
  let stopped = false;
  const work = async (): Promise<void> => {
    while (!stopped) {
      const index = nextMissing(asked, from);
      if (index < 0) return;
      asked[index] = true;
      try {
        await load(index);
        loaded += 1;
      } catch {
        continue;
      }
      if (!stopped) onProgress(loaded);
    }
  };
  for (let i = 0; i < atOnce; i++) void work();
  return {
    moveTo: (index) => {
      from = index;
    },
    stop: () => {
      stopped = true;
    },
  };
}
