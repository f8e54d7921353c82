"""The page at /: incidents as they stand, with buttons for what a responder does."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>PagerDuty emulator</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif; }
body { margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
.status { font-weight: 600; } .triggered { color: #c62828; } .acknowledged { color: #b26a00; }
.resolved { color: #2e7d32; } .key { font-family: monospace; font-size: .85em; word-break: break-all; }
#lost { color: #c62828; }
</style></head><body>
<h1>PagerDuty emulator</h1>
<p><span id="counts">loading</span> <span id="lost" role="status"></span></p>
<table><thead><tr><th>No.</th><th>Status</th><th>Urgency</th><th>Incident</th><th>Triggers</th><th>Since</th>
<th>Respond</th></tr></thead><tbody id="rows"></tbody></table>
<script>
const MOST = 200;
const cell = (row, text, kind) => {
  const made = row.insertCell(); made.textContent = text; if (kind) made.className = kind; return made;
};
const act = async (id, deed) => { await fetch(`/_emulator/incidents/${id}/${deed}`, {method: "POST"}); show(); };
const button = (where, incident, deed, label) => {
  const made = document.createElement("button"); made.textContent = label;
  made.setAttribute("aria-label", `${label} incident ${incident.number}`);
  made.onclick = () => act(incident.id, deed); where.append(made, " ");
};
const show = async () => {
  try {
    const [incidents, alerts] = await Promise.all(
      ["incidents", "alerts"].map(async name => (await fetch(`/_emulator/${name}`)).json()));
    const triggers = new Map(alerts.map(alert => [alert.incident_id, alert.triggers]));
    const open = incidents.filter(incident => incident.status !== "resolved").length;
    document.getElementById("counts").textContent = `${open} open of ${incidents.length} incidents`;
    const rows = document.createElement("tbody"); rows.id = "rows";
    for (const incident of incidents.slice(-MOST).reverse()) {
      const row = rows.insertRow();
      cell(row, incident.number); cell(row, incident.status, "status " + incident.status);
      cell(row, incident.urgency);
      const what = cell(row, incident.title), key = document.createElement("div");
      key.className = "key"; key.textContent = incident.incident_key; what.append(key);
      cell(row, triggers.get(incident.id)); cell(row, new Date(incident.created_at).toLocaleTimeString());
      const respond = row.insertCell();
      if (incident.status === "triggered") button(respond, incident, "acknowledge", "Acknowledge");
      if (incident.status !== "resolved") button(respond, incident, "resolve", "Resolve");
    }
    document.getElementById("rows").replaceWith(rows);
    document.getElementById("lost").textContent = "";
  } catch (failure) { document.getElementById("lost").textContent = "The emulator does not answer."; }
};
show(); setInterval(show, 1000);
</script></body></html>
"""
