// The page of the server: a form made from an application's schema, and its answer. No library, nothing from elsewhere.
"use strict";

const at = (id) => document.getElementById(id);
const made = (tag, given = {}, ...inside) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) name in element ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...inside);
  return element;
};
let about = null;      // the application that is shown, as GET /v1/NAME tells it
let readers = {};      // field to a function that gives its value, or undefined
let fillers = {};      // field to a function that shows a value

async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const answer = await fetch(path, { ...options, headers: { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) } });
  if (answer.status === 401) { at("token-form").hidden = false; at("application").hidden = true; at("token").focus(); }
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail || `the server answers ${answer.status}`), { fields: body.fields || [] });
  return { body, version: answer.headers.get("Tidemill-Version") };
}

// The form ------------------------------------------------------------------------------------------

function resolved(schema, whole) {
  if (schema.$ref) return { ...resolved(whole.$defs[schema.$ref.split("/").pop()], whole), ...schema, $ref: undefined };
  const kinds = schema.anyOf && schema.anyOf.filter((one) => one.type !== "null");
  return kinds && kinds.length ? { ...resolved(kinds[0], whole), ...schema, anyOf: undefined } : schema;
}

function field(name, given, whole, required) {
  const schema = resolved(given, whole), id = `field-${name}`, hint = `hint-${name}`;
  const common = { id, name, "aria-describedby": hint };
  let input, shown = null;
  readers[name] = () => (input.value === "" && !required ? undefined : input.value);
  fillers[name] = (value) => { input.value = value ?? ""; };
  const media = schema.contentEncoding === "base64" ? schema.contentMediaType || "" : "";
  if (media) {
    input = made("input", { ...common, type: "file", accept: media });
    shown = made(media.startsWith("audio") ? "audio" : "img", { className: "preview", hidden: true, alt: "the picture that is asked about", controls: true });
    let held;
    const show = (text, kind) => { held = text; shown.hidden = !text; if (text) shown.src = `data:${kind || "image/png"};base64,${text}`; };
    input.addEventListener("change", () => {
      const file = input.files[0];
      if (!file) return show(undefined);
      const reader = new FileReader();
      reader.onload = () => show(reader.result.slice(reader.result.indexOf(",") + 1), file.type);
      reader.readAsDataURL(file);
    });
    readers[name] = () => held;
    fillers[name] = (value) => { input.value = ""; show(value); };
  } else if (schema.enum) {
    input = made("select", common, ...schema.enum.map((one) => made("option", { value: one, textContent: one })));
  } else if (schema.type === "boolean") {
    input = made("input", { ...common, type: "checkbox" });
    readers[name] = () => input.checked;
    fillers[name] = (value) => { input.checked = Boolean(value); };
  } else if (schema.type === "integer" || schema.type === "number") {
    input = made("input", { ...common, type: "number", step: schema.type === "integer" ? "1" : "any", required });
    if (schema.minimum !== undefined) input.min = schema.minimum;
    if (schema.maximum !== undefined) input.max = schema.maximum;
    readers[name] = () => (input.value === "" ? undefined : Number(input.value));
  } else if (schema.type === "array") {
    const numbers = ["number", "integer"].includes((schema.items || {}).type);
    input = made("textarea", { ...common, className: numbers ? "numbers" : "", rows: 3 });
    readers[name] = () => {
      const parts = input.value.split(numbers ? /[\s,;]+/ : /\n/).map((one) => one.trim()).filter(Boolean);
      return parts.length || required ? (numbers ? parts.map((one) => (Number.isNaN(Number(one)) ? one : Number(one))) : parts) : undefined;
    };
    fillers[name] = (value) => { input.value = (value || []).join(numbers ? ", " : "\n"); };
  } else if (schema.type === "string" && (schema.maxLength === undefined || schema.maxLength > 200)) {
    input = made("textarea", { ...common, rows: 4 });
  } else {
    input = made("input", { ...common, type: "text" });
  }
  if (given.default !== undefined && given.default !== null && "placeholder" in input && !Array.isArray(given.default)) input.placeholder = `${given.default}`;
  const words = [given.description || schema.description || "", schema.type === "array" && !media ? (["number", "integer"].includes((schema.items || {}).type) ? "numbers, with commas between them" : "one on each line") : "", required ? "" : "may be left empty"];
  const hinted = made("span", { className: "hint", id: hint, textContent: words.filter(Boolean).join("; ") });
  return made("div", {}, made("label", { htmlFor: id }, name, hinted), input, ...(shown ? [shown] : []));
}

function question() {
  const found = {};
  for (const [name, read] of Object.entries(readers)) { const value = read(); if (value !== undefined) found[name] = value; }
  return found;
}

function fill(values) {
  for (const [name, set] of Object.entries(fillers)) set(values[name]);
}

async function show(name) {
  const asked = await ask(`/v1/${name}`);
  about = asked.body;
  readers = {}; fillers = {};
  for (const link of document.querySelectorAll("nav a")) link.hash === `#${name}` ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  const required = about.input.required || [], all = Object.entries(about.input.properties);
  const parts = all.map(([key, schema]) => [key, field(key, schema, about.input, required.includes(key))]);
  const needed = parts.filter(([key]) => required.includes(key)).map(([, part]) => part), rest = parts.filter(([key]) => !required.includes(key)).map(([, part]) => part);
  at("fields").replaceChildren(...needed, ...(rest.length ? [made("details", {}, made("summary", { textContent: `${rest.length} more, which may be left as they are` }), ...rest)] : []));
  fill(about.example.question);
  document.title = `${name} · Tidemill`;
  at("name").textContent = name;
  at("live").textContent = `Version ${about.version} answers since ${new Date(about.since).toLocaleString()}; package ${about.digest.slice(0, 12)}, snapshot ${about.snapshot.slice(0, 12)}.`;
  at("answer").replaceChildren(made("p", { className: "quiet", textContent: "Nothing was asked yet." }));
  at("card").textContent = about.card;
  at("curl").textContent = `curl ${location.origin}/v1/${name}/predict -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(about.example.question).replaceAll("'", "'\\''")}'`;
  at("state").hidden = true;
  at("application").hidden = false;
}

// The answer ----------------------------------------------------------------------------------------

const plain = (value) => (typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(5))) : String(value));

function drawn(value, schema) {
  if (value === null) return made("span", { className: "quiet", textContent: "none" });
  if (typeof value === "number" && schema.minimum === 0 && schema.maximum === 1) return bars({ "": value });
  if (Array.isArray(value)) return made("span", { textContent: value.map(plain).join(", ") });
  if (typeof value !== "object") return made("span", { textContent: plain(value) });
  const entries = Object.entries(value);
  if (entries.length && entries.every(([, one]) => typeof one === "number" && one >= 0 && one <= 1)) return bars(value);
  if (entries.length && entries.every(([, one]) => Array.isArray(one)))
    return made("div", { className: "wide" }, made("table", {}, made("tbody", {}, ...entries.map(([key, row]) => made("tr", {}, made("th", { scope: "row", textContent: key }), ...row.map((one) => made("td", { textContent: plain(one) })))))));
  return made("span", { textContent: entries.map(([key, one]) => `${key} ${plain(one)}`).join(", ") || "none" });
}

// A browser's own meter is drawn half as high as its frame.
function bar(label, value) {
  const found = made("span", { className: "bar", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": value });
  found.style.setProperty("--share", `${100 * value}%`);
  return found;
}

function bars(values) {
  return made("div", { className: "" in values ? "bars alone" : "bars" }, ...Object.entries(values).flatMap(([key, value]) => [
    ...(key ? [made("span", { textContent: key })] : []), bar(key || "share", value), made("span", { textContent: `${(100 * value).toFixed(1)} %` })]));
}

// A list and those that say more of each of its members, as a table.
function listed(first, body, schema) {
  const beside = Object.keys(body).filter((key) => (schema[key] || {}).beside === first && body[key].length === body[first].length);
  const names = [first, ...beside];
  if (!beside.length || !body[first].length) return null;
  const cell = (one) => made("td", { textContent: Array.isArray(one) ? one.map(plain).join("; ") : plain(one) });
  const rows = body[first].map((_, at) => made("tr", {}, ...names.map((key) => cell(body[key][at]))));
  const heads = names.map((key) => made("th", { scope: "col", textContent: key, title: (schema[key] || {}).description || "" }));
  return { names, table: made("div", { className: "wide" }, made("table", { className: "listed" }, made("thead", {}, made("tr", {}, ...heads)), made("tbody", {}, ...rows))) };
}

function answered({ body, version }, ms) {
  const schema = about.output.properties, first = Object.keys(body)[0], value = body[first];
  const list_of = Array.isArray(value) ? listed(first, body, schema) : null;
  const rest = Object.entries(body).filter(([key]) => key !== first && !list_of?.names.includes(key));
  const text = typeof value === "object" ? null : plain(value);
  const head = text === null ? made("div", {}, made("div", { className: "label", textContent: first }), hinted(first, schema), list_of ? list_of.table : drawn(value, resolved(schema[first], about.output)))
    : made("p", { className: text.length > 40 ? "first long" : "first", textContent: text || "(nothing)" });
  const list = made("dl", {}, ...rest.flatMap(([key, one]) => [made("dt", {}, key, hinted(key, schema)), made("dd", {}, drawn(one, resolved(schema[key], about.output)))]));
  at("answer").replaceChildren(head, list, made("p", { className: "quiet told", textContent: `${about.application} version ${version}, in ${ms.toFixed(0)} ms` }),
    made("details", {}, made("summary", { textContent: "As JSON" }), made("pre", { tabIndex: 0, textContent: JSON.stringify(body, null, 1) })));
  if (innerWidth < 832) at("answer-head").scrollIntoView({ block: "nearest" });
}

const hinted = (name, schema) => made("span", { className: "hint", textContent: (schema[name] || {}).description || "" });

function failed(error) {
  const fields = error.fields || [];
  at("answer").replaceChildren(made("p", { className: "wrong", role: "alert", textContent: fields.length ? "The question could not be read." : error.message }),
    made("dl", {}, ...fields.flatMap((one) => [made("dt", { textContent: one.field }), made("dd", { textContent: `${one.expected} (given: ${one.given})` })])));
  for (const input of document.querySelectorAll("#fields [aria-invalid]")) input.removeAttribute("aria-invalid");
  for (const one of fields) at(`field-${one.field.split(".")[0]}`)?.setAttribute("aria-invalid", "true");
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = at("ask"), began = performance.now();
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    answered(await ask(`/v1/${about.application}/predict`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question()) }), performance.now() - began);
  } catch (error) {
    failed(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
});
at("fill").addEventListener("click", () => fill(about.example.question));
document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && about) at("form").requestSubmit(); });
at("token-form").addEventListener("submit", (event) => { event.preventDefault(); sessionStorage.setItem("token", at("token").value); at("token-form").hidden = true; start(); });
addEventListener("hashchange", () => show(location.hash.slice(1)).catch(failed));

async function start() {
  try {
    const { body } = await ask("/v1");
    const names = body.applications.map((one) => one.application);
    at("applications").replaceChildren(...names.map((name) => made("li", {}, made("a", { href: `#${name}`, textContent: name }))));
    if (!names.length) { at("state").textContent = "No application has a champion yet."; setTimeout(start, 3000); return; }
    const wanted = location.hash.slice(1);
    await show(names.includes(wanted) ? wanted : names[0]);
  } catch (error) {
    at("state").hidden = false;
    at("state").textContent = error.message;
  }
}
start();
