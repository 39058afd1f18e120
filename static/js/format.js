// Text for ages, times and amounts. Pure: no page, no clock of its own.

const STEPS = [
  [60, "s", 1],
  [3600, "min", 60],
  [86400, "h", 3600],
];

/** An age in seconds as a short text: "12 s", "4 min", "2 h 05 min", "3 d 4 h", "210 d". */
export function ageText(age_s) {
  const age = Math.max(0, Math.floor(age_s));
  if (age < STEPS[0][0]) return `${age} s`;
  if (age < STEPS[1][0]) return `${Math.floor(age / 60)} min`;
  if (age < STEPS[2][0]) {
    const minutes = Math.floor((age % 3600) / 60);
    return `${Math.floor(age / 3600)} h ${String(minutes).padStart(2, "0")} min`;
  }
  const days = Math.floor(age / 86400);
  const hours = Math.floor((age % 86400) / 3600);
  return days < 14 && hours > 0 ? `${days} d ${hours} h` : `${days} d`;
}

/** Seconds until the text of an age can change: young ages tick each second, old ones need not. */
export function ageTick_s(age_s) {
  return age_s < 60 ? 1 : 15;
}

const formatters = new Map();

function formatter(zone, options) {
  const key = `${zone ?? ""}|${JSON.stringify(options)}`;
  if (!formatters.has(key)) {
    formatters.set(key, new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone, hourCycle: "h23" }));
  }
  return formatters.get(key);
}

const CLOCK = { hour: "2-digit", minute: "2-digit" };
const DAY = { day: "numeric", month: "short" };

/** "14:05" for today in `zone`, "23 Nov 14:05" this year, "23 Nov 2025 14:05" else. Zone null: the viewer's. */
export function timeText(at_ms, now_ms, zone = undefined) {
  const at = new Date(at_ms);
  const day = formatter(zone, { ...DAY, year: "numeric" });
  if (day.format(at) === day.format(new Date(now_ms))) return formatter(zone, CLOCK).format(at);
  const sameYear = at.getUTCFullYear() === new Date(now_ms).getUTCFullYear();
  const date = formatter(zone, sameYear ? DAY : { ...DAY, year: "numeric" }).format(at);
  return `${date} ${formatter(zone, CLOCK).format(at)}`;
}

/** Full time with the name of its zone, for a title: "Tue 24 Nov 2026, 14:05:11 (Europe/Berlin)". */
export function fullTimeText(at_ms, zone = undefined) {
  const options = { weekday: "short", ...DAY, year: "numeric", ...CLOCK, second: "2-digit" };
  const made = formatter(zone, options);
  return `${made.format(new Date(at_ms))} (${made.resolvedOptions().timeZone})`;
}

/** Count as at most four characters: 999, 1.2k, 12k, 1.2M. */
export function countText(count) {
  if (count < 1000) return String(count);
  const [size, unit] = count < 1_000_000 ? [1000, "k"] : [1_000_000, "M"];
  const value = count / size;
  return `${value < 10 ? Math.floor(value * 10) / 10 : Math.floor(value)}${unit}`;
}

/** Bytes (or bytes a second) with a binary unit and three figures: "1.53 GiB". */
export function bytesText(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : Number(value.toPrecision(3))} ${units[unit]}`;
}

/** A ratio 0..1 as a percentage without decimals: "31 %". */
export function ratioText(ratio) {
  return `${Math.round(ratio * 100)} %`;
}
