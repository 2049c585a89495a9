"use strict";
// Shows a snapshot each second. Texts of events are only ever inserted as text.

const SVG = "http://www.w3.org/2000/svg";
const OUTCOMES = ["pass", "review", "reject", "none"];
const OUTCOME_NAMES = { pass: "Pass", review: "Review", reject: "Reject", none: "No verdict" };
const RETRY_MS = 5000;
const STALE_MS = 6000;
const TREND_MS = 60000;
// A person needs time to look, and each new image is fetched.
const GALLERY_MS = 5000;

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-GB");
const compact = new Intl.NumberFormat("en-GB", { notation: "compact", maximumFractionDigits: 1 });
const count = (n) => (n < 100000 ? whole.format(n) : compact.format(n));
const decimals = (n, digits) => (n === null || n === undefined ? "–" : n.toFixed(digits));
const signed = (n, digits) => (n > 0 ? "+" : "") + decimals(n, digits).replace("-", "−");
const percent = (part, total) => (total > 0 ? `${((100 * part) / total).toFixed(1)} %` : "–");
const time = (ms) => new Date(ms).toLocaleTimeString("en-GB");

let source = null;
let latest = null;
let receivedAt = 0;
let paused = false;
let galleryAt = 0;
const cards = new Map();
const lagHistory = [];

// ---- building blocks

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function setText(id, text) {
  const target = $(id);
  if (target.textContent !== text) target.textContent = text;
}

function duration(seconds) {
  const units = [[86400, "day"], [3600, "hour"], [60, "minute"]];
  const [size, name] = units.find(([size]) => seconds >= size && seconds % size === 0) ?? [1, "second"];
  const number = seconds / size;
  return number === 1 ? name : `${number} ${name}s`;
}

// Charts have the width of their place, so that their text keeps its size.
const widthOf = (id) => Math.max($(id).clientWidth, 240);

// A bar of one or more parts. The numbers next to it say the same, so it is hidden from readers.
function bar(parts, total) {
  const made = svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  made.append(svg("rect", { class: "track", width: 100, height: 10 }));
  let x = 0;
  for (const [name, value] of parts) {
    const width = total > 0 ? (100 * value) / total : 0;
    made.append(svg("rect", { class: `bar ${name}`, x, width, height: 10 }));
    x += width;
  }
  return made;
}

function table(caption, heads, rows) {
  const cell = (content, index) => {
    if (index === 0) return element("th", { scope: "row" }, content);
    return element("td", { className: content instanceof Node ? "wide" : "number" }, content);
  };
  const head = (name, index) => {
    const parts = Array.isArray(name) ? name : [name];
    return element("th", { scope: "col", className: index === 0 ? "" : name === "Share" ? "wide" : "number" }, ...parts);
  };
  return element("div", { className: "scroll" }, element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...heads.map(head))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  ));
}

// Unchanged tables stay as they are, for a person who reads or selects them.
const shownData = new Map();
function isShown(id, data) {
  const text = JSON.stringify(data);
  if (shownData.get(id) === text) return true;
  shownData.set(id, text);
  return false;
}

const empty = (text) => element("p", { className: "empty" }, text);

// ---- sections

function showTiles(state) {
  const { rate, kafka, drift } = state;
  const verdicts = state.verdicts.reduce((sum, it) => sum + it.events - it.none, 0);
  const rejected = state.verdicts.reduce((sum, it) => sum + it.reject, 0);
  setText("rate", decimals(rate.events_per_s, rate.events_per_s < 100 ? 1 : 0));
  setText("rate-note", `${count(state.events)} in the last ${duration(state.window_s)}`);
  setText("rejected-share", percent(rejected, verdicts));
  setText("rejected-note", `${count(rejected)} of ${count(verdicts)} with a verdict`);
  setText("dead", count(state.dead_letters));
  setText("dead-note", `${percent(state.dead_letters, state.dead_letters + state.events_unfiltered)} of all answers`);
  showLag(kafka, state.now_ms);
  const notes = {
    stable: `stable; alert from ${drift.alert}`,
    drift: `drift: at or above the alert of ${drift.alert}`,
    too_few_events: `too few events: ${count(state.events)} now, ${count(drift.reference_events)} in the reference, ${count(drift.events_min)} each needed`,
  };
  setText("psi", decimals(drift.psi, 3));
  setText("psi-note", notes[drift.state]);
  $("drift-tile").classList.toggle("alerting", drift.state === "drift");
}

function showLag(kafka, now) {
  const { lag, lag_problem: problem } = kafka;
  $("lag-tile").classList.toggle("alerting", Boolean(problem));
  setText("lag", lag ? count(lag.records) : "–");
  if (problem) {
    setText("lag-note", lag ? `as of ${time(lag.at_ms)}; now unknown` : "unknown");
  } else if (lag) {
    const last = lagHistory.at(-1);
    if (!last || last.at_ms !== lag.at_ms) lagHistory.push(lag);
    while (lagHistory.length > 1 && lagHistory[0].at_ms < now - TREND_MS) lagHistory.shift();
    setText("lag-note", lag.is_committed ? trend() : "the group has committed no offset yet");
  } else {
    setText("lag-note", "not read yet");
  }
}

function trend() {
  const [first, last] = [lagHistory[0], lagHistory.at(-1)];
  const seconds = (last.at_ms - first.at_ms) / 1000;
  if (last.records === 0) return "records; the workers keep up";
  if (seconds < 4) return "records not yet committed";
  const perSecond = (last.records - first.records) / seconds;
  if (Math.abs(perSecond) < 0.05) return "records; steady";
  if (perSecond > 0) return `records; growing by ${decimals(perSecond, 1)}/s`;
  const minutes = Math.ceil(last.records / -perSecond / 60);
  return `records; empty in about ${minutes < 2 ? "a minute" : `${count(minutes)} minutes`}`;
}

// Joins two bins, and leaves out the empty ones at both ends.
function histogram([first, second], binWidth) {
  const joined = (bins) => bins.filter((_, i) => i % 2 === 0).map((n, i) => n + (bins[2 * i + 1] ?? 0));
  const [bars, outline] = [joined(first), joined(second)];
  const used = bars.map((n, i) => n + outline[i] > 0);
  const from = Math.max(0, used.indexOf(true) - 1);
  const to = Math.min(bars.length, used.lastIndexOf(true) + 2);
  const width = 2 * binWidth;
  return { bars: bars.slice(from, to), outline: outline.slice(from, to), from: from * width, width };
}

// Shows the shares of scores of two groups, the first as bars, the second as a line, and both as a table.
function showDistributions(id, scores, binWidth, names, label, none) {
  if (scores.every((bins) => bins.every((n) => n === 0))) {
    $(`${id}-chart`).replaceChildren(empty(none));
    $(`${id}-table`).replaceChildren();
    return;
  }
  const { bars, outline, from, width } = histogram(scores, binWidth);
  const share = (counts) => {
    const total = counts.reduce((a, b) => a + b, 0);
    return counts.map((n) => (total > 0 ? n / total : 0));
  };
  const [shareOfBars, shareOfOutline] = [share(bars), share(outline)];
  const most = Math.max(...shareOfBars, ...shareOfOutline, 0.01);
  const [chartWidth, chartHeight, bottom] = [widthOf(`${id}-chart`), 190, 18];
  const step = chartWidth / bars.length;
  const height = (value) => ((chartHeight - bottom - 6) * value) / most;
  const base = chartHeight - bottom;
  const chart = svg("svg", { viewBox: `0 0 ${chartWidth} ${chartHeight}`, role: "img", "aria-label": `${label} The table below has the numbers.` });
  let line = "";
  shareOfBars.forEach((value, i) => {
    chart.append(svg("rect", { class: "bar", x: i * step + 1, y: base - height(value), width: Math.max(step - 2, 1), height: height(value) }));
    line += `${i === 0 ? "M" : "L"}${i * step} ${base - height(shareOfOutline[i])}H${(i + 1) * step}`;
  });
  if (outline.some((n) => n > 0)) chart.append(svg("path", { class: "line", d: line }));
  chart.append(svg("line", { class: "axis", x1: 0, x2: chartWidth, y1: base, y2: base }));
  const everyOther = bars.length > 24 ? 2 : 1;
  for (let score = Math.ceil(from); score <= from + bars.length * width; score += everyOther) {
    const x = ((score - from) / width) * step;
    const anchor = x < 8 ? "start" : x > chartWidth - 8 ? "end" : "middle";
    chart.append(svg("text", { x, y: chartHeight - 4, "text-anchor": anchor }, String(score)));
  }
  $(`${id}-chart`).replaceChildren(chart);
  if (!$(`${id}-table`).parentElement.open) return;
  const rows = bars.map((n, i) => [
    `${decimals(from + i * width, 1)} to ${decimals(from + (i + 1) * width, 1)}`,
    count(n), decimals(100 * shareOfBars[i], 1), count(outline[i]), decimals(100 * shareOfOutline[i], 1),
  ]);
  const heads = ["Score", ...names.flatMap((name) => [name, `${name}, %`])];
  $(`${id}-table`).replaceChildren(table("Events by score", heads, rows));
}

function showScores(state) {
  const { scores, drift } = state;
  const means = `mean ${decimals(scores.mean, 2)} now, ${decimals(scores.reference_mean, 2)} in the reference`;
  const times = `The last ${duration(state.window_s)} and the ${duration(state.reference_s)} before`;
  const isEmpty = state.events + drift.reference_events === 0;
  setText("scores-note", isEmpty ? `${times}.` : `${times}: ${means}.`);
  const label = `Histogram of scores: ${means}. PSI ${decimals(drift.psi, 3)}.`;
  showDistributions("scores", [scores.now, scores.reference], scores.bin_width, ["Now", "Reference"], label, "No events in these times.");
}

function showRate(state) {
  const { rate, kafka } = state;
  const totals = rate.events.map((n, i) => n + rate.dead_letters[i]);
  const most = Math.max(...totals, 1);
  const perSecond = (n) => decimals(n / rate.bucket_s, 1);
  const isEmpty = totals.every((n) => n === 0);
  setText("rate-chart-note", isEmpty ? `No answers in the last ${duration(state.window_s)}.` :
    `Answers in steps of ${+rate.bucket_s.toFixed(2)} s, at most ${perSecond(most)} per second. Newest answer: ${time(state.newest_answer_ms)}.`);
  const [width, height] = [widthOf("rate-chart"), 120];
  const step = width / totals.length;
  const label = `Answers over the last ${duration(state.window_s)}: ${decimals(rate.events_per_s, 1)} events and ${decimals(rate.dead_letters_per_s, 1)} dead letters per second now, at most ${perSecond(most)} per second.`;
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height + 16}`, role: "img", "aria-label": label });
  totals.forEach((_, i) => {
    const scaled = (n) => (height * n) / most;
    const [events, dead] = [scaled(rate.events[i]), scaled(rate.dead_letters[i])];
    chart.append(svg("rect", { class: "bar", x: i * step + 1, y: height - events, width: step - 2, height: events }));
    chart.append(svg("rect", { class: "bar bad", x: i * step + 1, y: height - events - dead, width: step - 2, height: dead }));
  });
  chart.append(svg("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height }));
  chart.append(svg("text", { x: 0, y: height + 13 }, `${decimals(state.window_s / 60, state.window_s % 60 === 0 ? 0 : 1)} min ago`));
  chart.append(svg("text", { x: width, y: height + 13, "text-anchor": "end" }, "now"));
  $("rate-chart").replaceChildren(chart);
  if (!$("partitions").parentElement.open) return;
  const rows = (kafka.lag?.partitions ?? []).map((n, i) => [String(i), count(n)]);
  $("partitions").replaceChildren(rows.length > 0
    ? table(`Records that group ${kafka.group} has not committed, as of ${time(kafka.lag.at_ms)}`, ["Partition", "Records"], rows)
    : empty("The backlog is not known."));
}

function showVerdicts(state) {
  if (isShown("verdicts", state.verdicts)) return;
  if (state.verdicts.length === 0) {
    $("verdicts").replaceChildren(empty("No events in this window."));
    return;
  }
  const isUsed = (name) => name !== "none" || state.verdicts.some((it) => it.none > 0);
  const outcomes = OUTCOMES.filter(isUsed);
  const rows = state.verdicts.map((it) => [
    it.policy === "(none)" ? "no policy" : it.policy,
    count(it.events),
    ...outcomes.map((name) => percent(it[name], it.events)),
    bar(outcomes.map((name) => [name, it[name]]), it.events),
  ]);
  const swatch = (name) => svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("rect", { class: `bar ${name}`, width: 10, height: 10 }));
  const heads = ["Policy", "Events", ...outcomes.map((name) => [swatch(name), OUTCOME_NAMES[name]]), "Share"];
  $("verdicts").replaceChildren(table("Share of each verdict by policy", heads, rows));
}

function showCounts(id, caption, head, labels, total, colour, none) {
  if (isShown(id, [labels, total, none])) return;
  if (labels.length === 0) {
    $(id).replaceChildren(empty(none));
    return;
  }
  const rows = labels.map(({ code, count: n }) => [
    code, count(n), percent(n, total), bar([[colour, n]], total),
  ]);
  $(id).replaceChildren(table(caption, [head, "Count", "%", "Share"], rows));
}

function showReasons(state) {
  const none = state.with_reasons > 0
    ? `None of ${count(state.with_reasons)} events has a reason.`
    : "No event in this window carries reasons.";
  showCounts("reasons", `Share of ${count(state.with_reasons)} events with each reason`, "Reason",
    state.reasons, state.with_reasons, "", none);
  showCounts("dead-letters", `Share of ${count(state.dead_letters)} dead letters`, "Code",
    state.dead_letter_codes, state.dead_letters, "bad", "No dead letters in this window.");
}

// ---- the shadow

function engineText(engine) {
  if (!engine) return "no engine yet";
  const weights = engine.weights.length > 0 ? `, weights ${engine.weights.join(" ")}` : "";
  const settings = engine.settings ? `, settings ${engine.settings}` : "";
  return `${engine.name} ${engine.version} (${engine.segmenter}, ${engine.scorer}${settings}${weights})`;
}

function showShadow(state) {
  const { shadow, scores } = state;
  $("shadow").hidden = !shadow;
  if (!shadow) return;
  const { pairs } = shadow;
  const mixed = shadow.is_mixed ? " An engine changed in this time: the figures mix both." : "";
  setText("shadow-engine", `Shadow: ${engineText(shadow.engine)}. Answers: ${engineText(shadow.live_engine)}.${mixed}`);
  setText("shadow-rate", decimals(shadow.events_per_s, shadow.events_per_s < 100 ? 1 : 0));
  setText("shadow-rate-note", `${count(shadow.events)} in the last ${duration(state.window_s)}, ${percent(shadow.events, state.events)} of the events`);
  setText("shadow-psi", decimals(shadow.psi, 3));
  setText("pairs", count(pairs.pairs));
  setText("pairs-note", pairs.is_limited ? "images scored by both; the latest only" : "images scored by both");
  setText("pair-difference", signed(pairs.mean_difference, 2));
  setText("pair-difference-note", `shadow minus answer; ${decimals(pairs.mean_absolute_difference, 2)} without signs`);
  setText("pair-srcc", decimals(pairs.srcc, 3));
  setText("changed-share", percent(pairs.changed_verdicts, pairs.verdicts));
  setText("changed-note", `${count(pairs.changed_verdicts)} of ${count(pairs.verdicts)} pairs with verdicts`);
  const means = `mean ${decimals(shadow.mean, 2)} of the shadow, ${decimals(scores.mean, 2)} of the answers`;
  setText("shadow-note", `Topic ${state.kafka.shadow_topic}, the last ${duration(state.window_s)}: ${means}.`);
  const label = `Histogram of the scores of both engines: ${means}. PSI ${decimals(shadow.psi, 3)}.`;
  showDistributions("shadow", [shadow.scores, scores.now], scores.bin_width, ["Shadow", "Answers"], label, "No events in this window.");
}

// ---- rejected images

function showGallery(state) {
  const gallery = $("gallery");
  const shown = [...gallery.children].map((card) => card.dataset.number);
  const wanted = state.rejected.map((it) => String(it.number));
  const fresh = wanted.filter((number) => !shown.includes(number)).length;
  const isEarly = Date.now() - galleryAt < GALLERY_MS && gallery.dataset.filter === filterQuery();
  if (isEarly && shown.length > 0) return;
  const isBusy = gallery.matches(":hover, :focus-within") && gallery.dataset.filter === filterQuery();
  if (isBusy && fresh > 0 && shown.length > 0) {
    setText("gallery-note", `${fresh} newer, shown once pointer and focus leave the list.`);
    return;
  }
  setText("gallery-note", wanted.length > 0 ? `${wanted.length} images, newest first.` : "");
  if (gallery.dataset.filter === filterQuery() && gallery.dataset.ready && wanted.join() === shown.join()) return;
  galleryAt = Date.now();
  gallery.dataset.filter = filterQuery();
  gallery.dataset.ready = "true";
  for (const number of cards.keys()) if (!wanted.includes(number)) cards.delete(number);
  for (const it of state.rejected) {
    if (!cards.has(String(it.number))) cards.set(String(it.number), card(it));
  }
  const made = wanted.map((number) => cards.get(number));
  gallery.replaceChildren(...(made.length > 0
    ? made
    : [element("li", { className: "empty" }, "No image was rejected.")]));
}

function card(it) {
  const name = it.id || it.uri;
  const url = `api/thumbnail/${it.number}`;
  const picture = element("div", { className: "picture" });
  const image = element("img", { alt: `Thumbnail of ${name}`, loading: "lazy", decoding: "async", src: url });
  image.addEventListener("error", () => explainMissing(picture, image, url));
  picture.append(image);
  const facts = element("div", { className: "facts" },
    element("div", { className: "row" },
      element("h3", {}, name),
      element("span", { className: "badge" }, `score ${decimals(it.score, 2)}`)),
    element("p", { className: "quiet" }, "rejected by ", element("b", {}, it.policy), " at ",
      element("time", { dateTime: new Date(it.at_ms).toISOString() }, time(it.at_ms))));
  if (it.sentences.length > 0) {
    facts.append(element("ul", {}, ...it.sentences.map((text) => element("li", {}, text))));
  }
  if (it.reasons.length > 0) {
    facts.append(element("ul", { className: "codes", "aria-label": "Reasons" },
      ...it.reasons.map(({ code, text }) => element("li", { title: text }, code))));
  }
  facts.append(element("p", { className: "uri" }, it.uri));
  if (it.has_regions) {
    const button = element("button", { type: "button", "aria-pressed": "false", "aria-label": `Outline the regions of ${name}` }, "Outline regions");
    button.addEventListener("click", () => toggleOutlines(button, picture, it.number));
    facts.append(button);
  }
  const made = element("li", {}, picture, facts);
  made.dataset.number = String(it.number);
  return made;
}

async function explainMissing(picture, image, url) {
  let text = "The monitor does not answer.";
  try {
    text = (await (await fetch(url)).text()).trim();
  } catch {
    // The text above says it.
  }
  picture.classList.add("without-image");
  image.remove();
  picture.prepend(element("p", { className: "missing" }, `No thumbnail: ${text}`));
}

async function toggleOutlines(button, picture, number) {
  const old = picture.querySelector("svg");
  button.setAttribute("aria-pressed", String(!old));
  if (old) {
    old.remove();
    return;
  }
  try {
    const response = await fetch(`api/outlines/${number}`);
    if (!response.ok) throw new Error(await response.text());
    const outlines = await response.json();
    const labels = outlines.regions.map(({ index, label }) => `region ${index}: level ${label}`);
    const drawn = svg("svg", { viewBox: `0 0 ${outlines.width} ${outlines.height}`, role: "img", "aria-label": `Outlined regions. ${labels.join("; ")}` });
    for (const { d, quality } of outlines.regions) {
      drawn.append(svg("path", { class: "outline-back", d }));
      drawn.append(svg("path", { class: "outline", d, stroke: `hsl(${Math.round(120 * quality)} 85% 60%)` }));
    }
    for (const { label, x, y } of outlines.regions) {
      drawn.append(svg("text", { x: x + 2, y: Math.max(y + 9, 9) }, label));
    }
    picture.append(drawn);
  } catch (error) {
    button.setAttribute("aria-pressed", "false");
    button.textContent = `No outlines: ${error.message.trim()}`;
  }
}

// ---- alerts, filters, connection

function showAlerts(state) {
  const { kafka, drift } = state;
  const found = [];
  const since = (problem) => `since ${time(problem.since_ms)}: ${problem.text}`;
  if (kafka.brokers_away) found.push(["Kafka is away", since(kafka.brokers_away)]);
  if (kafka.problem) found.push(["Not reading answers", since(kafka.problem)]);
  if (kafka.lag_problem && !kafka.brokers_away) found.push(["Backlog unknown", since(kafka.lag_problem)]);
  if (drift.state === "drift") {
    found.push(["Score drift", `the scores of the last ${duration(state.window_s)} differ from those of the ${duration(state.reference_s)} before; the PSI is at or above ${drift.alert}.`]);
  }
  setAlerts(found);
}

function setAlerts(found) {
  const texts = found.map((it) => it.join(": "));
  const alerts = $("alerts");
  // Unchanged alerts must not be announced again.
  if (alerts.dataset.shown === JSON.stringify(texts)) return;
  alerts.dataset.shown = JSON.stringify(texts);
  alerts.replaceChildren(...found.map(([title, text]) =>
    element("p", { className: "alert" }, element("b", {}, `⚠ ${title}`), element("span", {}, text))));
}

function showStatus() {
  const isStale = Date.now() - receivedAt > STALE_MS;
  const isAway = latest !== null && (latest.kafka.brokers_away || latest.kafka.problem);
  const [name, text] =
    receivedAt === 0 ? ["connecting", "Connecting"]
    : isStale ? ["away", `No connection to the monitor since ${time(receivedAt)}`]
    : paused ? ["paused", "Paused"]
    : isAway ? ["away", "Kafka is not read"]
    : ["live-now", "Live"];
  $("status").className = `status ${name}`;
  setText("status-text", text);
}

function setOptions(select, all, values) {
  const chosen = select.value;
  if (chosen !== "" && !values.includes(chosen)) values = [...values, chosen].sort();
  const known = [...select.options].slice(1).map((option) => option.value);
  if (known.join("\n") === values.join("\n") || document.activeElement === select) return;
  const option = (value) => element("option", { value }, value);
  select.replaceChildren(element("option", { value: "" }, all), ...values.map(option));
  select.value = chosen;
}

function showFilters(state) {
  setOptions($("policy"), "All policies", state.policies);
  for (const { name, values } of state.metadata) {
    const parameter = `metadata.${name}`;
    let select = [...$("metadata-filters").querySelectorAll("select")].find((it) => it.name === parameter);
    if (!select) {
      select = element("select", { name: parameter }, element("option", { value: "" }, "All values"));
      const wanted = new URLSearchParams(location.search).get(parameter);
      if (wanted) select.append(element("option", { value: wanted, selected: true }, wanted));
      $("metadata-filters").append(element("label", {}, `${name} `, select));
    }
    setOptions(select, "All values", values);
  }
  const isFiltered = filterQuery() !== "";
  $("clear").hidden = !isFiltered;
  const missed = state.events_without_series > 0
    ? ` ${count(state.events_without_series)} events have too rare a combination and are only in the unfiltered counts.` : "";
  setText("filter-note", isFiltered
    ? `${count(state.events)} of ${count(state.events_unfiltered)} events. Filters do not apply to dead letters and backlog.${missed}` : "");
}

function showFoot(state) {
  const notes = [`Updated ${time(state.now_ms)}.`];
  if (state.foreign > 0) notes.push(`${count(state.foreign)} records are no answers of this service.`);
  const { interruption } = state.kafka;
  if (interruption && state.now_ms - interruption.until_ms < 1000 * (state.window_s + state.reference_s)) {
    const [since, until] = [time(interruption.since_ms), time(interruption.until_ms)];
    notes.push(interruption.is_skipped
      ? `Records could not be read from ${since} on; the answers of their partitions until ${until} are missing.`
      : `Reading was interrupted from ${since} to ${until}; it continued where it had ended.`);
  }
  if (state.too_old > 0) notes.push(`${count(state.too_old)} answers were older than both windows.`);
  if (state.metadata.length === 0) notes.push("Add names to monitor.metadata to filter by metadata.");
  setText("foot", notes.join(" "));
}

function show(state) {
  setText("topics", `${state.kafka.topics.join(" and ")}, group ${state.kafka.group}`);
  showAlerts(state);
  showFilters(state);
  showTiles(state);
  showScores(state);
  showRate(state);
  showVerdicts(state);
  showReasons(state);
  showShadow(state);
  showGallery(state);
  showFoot(state);
  document.title = state.drift.state === "drift" ? "⚠ Drift – image quality monitor" : "Image quality monitor";
}

function filterQuery() {
  const chosen = [...document.querySelectorAll("#filters select")]
    .filter((select) => select.value !== "")
    .map((select) => [select.name, select.value]);
  return new URLSearchParams(chosen).toString();
}

function connect() {
  source?.close();
  const query = latest === null ? location.search.slice(1) : filterQuery();
  const opened = new EventSource(`api/events?${query}`);
  source = opened;
  opened.onmessage = (message) => {
    latest = JSON.parse(message.data);
    receivedAt = Date.now();
    if (!paused) show(latest);
    showStatus();
  };
  opened.onerror = () => {
    showStatus();
    // The browser connects again by itself, except after a refusal.
    if (opened.readyState !== EventSource.CLOSED) return;
    explainRefusal(query);
    setTimeout(() => source === opened && connect(), RETRY_MS);
  };
}

async function explainRefusal(query) {
  try {
    const response = await fetch(`api/state?${query}`);
    if (!response.ok) setAlerts([["Refused", (await response.text()).trim()]]);
  } catch {
    // The status says that there is no connection.
  }
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (!paused && latest !== null) show(latest);
  showStatus();
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("change", () => {
  const query = filterQuery();
  history.replaceState(null, "", query === "" ? location.pathname : `?${query}`);
  connect();
});
$("filters").addEventListener("reset", (event) => {
  event.preventDefault();
  for (const select of document.querySelectorAll("#filters select")) select.value = "";
  $("policy").focus();
  $("filters").dispatchEvent(new Event("change"));
});
for (const details of document.querySelectorAll("details")) {
  details.addEventListener("toggle", () => latest !== null && show(latest));
}
const wanted = new URLSearchParams(location.search).get("policy");
if (wanted) {
  $("policy").append(element("option", { value: wanted }, wanted));
  $("policy").value = wanted;
}
setInterval(showStatus, 1000);
connect();
