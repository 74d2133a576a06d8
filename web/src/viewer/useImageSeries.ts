import { useQuery } from "@tanstack/react-query";
import { loadSeries } from "./series";

/** Metadata of a series, read once: images do not change under the reader. `count` asks again when more arrived. */
export const useImageSeries = (studyUid: string, seriesUid: string | null, count: number) =>
  useQuery({
    queryKey: ["images", studyUid, seriesUid, count],
    queryFn: ({ signal }) => loadSeries(studyUid, seriesUid ?? "", signal),
    enabled: seriesUid !== null,
    staleTime: Infinity,
    gcTime: 30 * 60_000,
    retry: 1,
  });
