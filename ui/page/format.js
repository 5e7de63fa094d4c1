// Readable numbers and times. The column or the chart shows the unit.

let utc = localStorage.getItem("tidegate-utc") === "yes";

export const isUtc = () => utc;
export function setUtc(on) {
  utc = on;
  localStorage.setItem("tidegate-utc", on ? "yes" : "no");
}
export const zone = () => (utc ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);

export function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  const places = Math.max(0, Math.min(3, digits - 1 - Math.floor(Math.log10(size))));
  return value.toFixed(places);
}

// A count: never with decimals.
export const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en-US"));

// For an axis, where the steps are round.
export const mark = (value) => (Math.abs(value) >= 1000 ? value.toLocaleString("en-US") : String(Number(value.toFixed(6))));

export const ms = (value) => (value === null || value === undefined ? "–" : value >= 10000 ? `${number(value / 1000)} s` : number(value));
export const percent = (ratio) => {
  if (ratio === null || ratio === undefined) return "–";
  if (ratio === 0) return "0";
  return ratio < 0.0005 ? "<0.1" : (ratio * 100).toFixed(ratio < 0.1 ? 1 : 0);
};

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
  return `${number(value)} ${units[place]}`;
}

const options = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
export function clock(at, { day = false, milliseconds = false } = {}) {
  const date = new Date(at);
  const chosen = { ...options, timeZone: utc ? "UTC" : undefined };
  if (milliseconds) chosen.fractionalSecondDigits = 3;
  const text = new Intl.DateTimeFormat("en-GB", chosen).format(date);
  if (!day) return text;
  const dayOf = new Intl.DateTimeFormat("sv-SE", { timeZone: chosen.timeZone }).format(date);
  return `${dayOf} ${text}`;
}

export function age(seconds) {
  if (seconds < 0) return "0 s";
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// The change against the usual value, shown as ×3.1 or −40 %.
export function change(now, usual) {
  if (now === null || usual === null || usual === undefined) return null;
  if (usual < 0.05 && now < 0.05) return 0;
  if (usual < 0.05) return Infinity;
  return now / usual - 1;
}
export function changeText(value) {
  if (value === null) return "–";
  if (value === Infinity) return "new";
  if (value >= 2) return `×${number(value + 1, 2)}`;
  const whole = Math.round(value * 100);
  return `${whole > 0 ? "+" : whole < 0 ? "−" : ""}${Math.abs(whole)} %`;
}
