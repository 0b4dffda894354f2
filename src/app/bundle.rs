//! A bundle: everything seen of a job in one archive, to attach to a ticket before the pods are gone.
//!
//! It is made from a recording, read twice: once so that the redactor knows every value that is named anywhere, once
//! to write. So a log line that came before the variable that gives its secret away is clean, too. The recording is
//! inside, so that `open`, `report` and `replay` read a bundle as they read a recording.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::model::event::{Event, SourceEvent, SourceId, Stamped};
use crate::model::{Model, update};
use crate::parse::Nanos;
use crate::report::redact::{Redactor, Taken};
use crate::report::tar::Archive;
use crate::report::{Report, html, json, markdown, text};
use crate::rules::scene::Scene;
use crate::sources::recording::{BUNDLE, BUNDLED_RECORDING, Header, Loss, Reader, Writer, encode};

/// Name and version of the schema of the manifest.
const SCHEMA: &str = "ncclscope.bundle/v1";

/// What the bundle says of itself.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// `ncclscope.bundle/v1`.
    pub schema: &'static str,
    /// Version of the program that wrote it.
    pub program_version: &'static str,
    /// What was running when it was seen.
    pub verb: String,
    /// When that began, nanoseconds since the Unix epoch.
    pub started: Nanos,
    /// Secrets were taken out.
    pub redacted: bool,
    /// What was taken out, by rule and name.
    pub taken: Vec<Taken>,
    /// What is missing, in words.
    pub missing: Option<String>,
    /// Files in it, in order.
    pub files: Vec<String>,
}

/// A folder for what is on its way into the archive; gone with this.
#[derive(Debug)]
pub struct Spool(PathBuf);

impl Spool {
    /// A new folder that only its owner can look into.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new() -> io::Result<Self> {
        let base = std::env::temp_dir();
        for n in 0..1_000 {
            let path = base.join(format!("ncclscope-{}-{n}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other(
            "no room for a folder in the temporary one",
        ))
    }

    /// A name in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(name))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A part of a path that leads nowhere else.
fn tame(part: &str) -> String {
    let mut out: String = part
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '@') {
                c
            } else {
                '_'
            }
        })
        .take(120)
        .collect();
    if out.is_empty() || out.starts_with('.') {
        out.insert(0, '_');
    }
    out
}

/// Files under way, by their names in the archive. Few are open at once, however many containers there are.
struct Files<'s> {
    spool: &'s Spool,
    names: Vec<String>,
    index: BTreeMap<String, usize>,
}

impl Files<'_> {
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let n = match self.index.get(name) {
            Some(n) => *n,
            None => {
                let n = self.names.len();
                self.names.push(name.to_owned());
                self.index.insert(name.to_owned(), n);
                self.spool.file(&format!("part-{n}"))?;
                n
            }
        };
        let path = self.spool.path(&format!("part-{n}"));
        OpenOptions::new().append(true).open(path)?.write_all(bytes)
    }
}

/// What the logs are called in the archive.
#[derive(Default)]
struct LogNames {
    /// What each source is called, and the number of the first line of the file that it is read from by now.
    told: BTreeMap<SourceId, (String, u64)>,
    /// Where the lines of each go.
    names: BTreeMap<SourceId, String>,
    taken: BTreeSet<String>,
}

impl LogNames {
    fn hear(&mut self, event: &SourceEvent) {
        match event {
            SourceEvent::Opened(id, info) => {
                let told = || (info.name.clone(), 1);
                self.told.entry(*id).or_insert_with(told);
            }
            // What evidence cites by the name of a file stands in a file of its own here, too.
            SourceEvent::Files { id, files } => {
                if let Some(file) = files.last() {
                    let told = (file.name.clone(), file.first_line);
                    let before = self.told.insert(*id, told);
                    if before.is_none_or(|(_, line)| line != file.first_line) {
                        self.names.remove(id);
                    }
                }
            }
            _ => {}
        }
    }

    fn of(&mut self, id: SourceId) -> &str {
        let (told, taken) = (&self.told, &mut self.taken);
        self.names.entry(id).or_insert_with(|| {
            let Some((told, _)) = told.get(&id) else {
                return format!("logs/source-{}.log", id.0);
            };
            let parts = told.split('/').filter(|p| !p.is_empty()).map(tame);
            let parts: Vec<String> = parts.collect();
            let plain = format!("logs/{}", parts.join("/"));
            let mut name = format!("{plain}.log");
            // Two names that differ only in what was tamed.
            let mut n = 2;
            while !taken.insert(name.clone()) {
                name = format!("{plain}-{n}.log");
                n += 1;
            }
            name
        })
    }
}

/// Writes a bundle of a recording to `out`.
///
/// # Errors
/// What can't be read or written.
pub fn pack(recording: &Path, mut redactor: Redactor, out: File) -> anyhow::Result<Manifest> {
    learn(recording, &mut redactor)?;
    let spool = Spool::new()?;
    let mut reader = Reader::open(recording)?;
    let told = reader.header().clone();
    let header = Header {
        redacted: told.redacted || redactor.is_on(),
        ..told
    };
    let copy = spool.file("recording")?;
    let mut writer = Writer::new(BufWriter::new(copy), &header, redactor.clone())?;
    let mut files = Files {
        spool: &spool,
        names: Vec::new(),
        index: BTreeMap::new(),
    };
    let mut model = Model::default();
    let mut logs = LogNames::default();
    let mut last = header.started;
    for (seq, entry) in (1..).zip(&mut reader) {
        last = entry.t;
        let stamped = Stamped {
            seq,
            at: entry.at,
            event: entry.event,
        };
        writer.event(&stamped, entry.t)?;
        match &stamped.event {
            Event::Source(event) => logs.hear(event),
            Event::Log(log) => {
                let name = logs.of(log.source);
                files.append(name, &redactor.lines(log.source.0, &log.block.text))?;
            }
            Event::KubeEvent(_) => {
                line(&mut files, "events.jsonl", &stamped, entry.t, &mut redactor)?
            }
            Event::Probe(_) => line(&mut files, "probes.jsonl", &stamped, entry.t, &mut redactor)?,
            Event::Sample(_) => line(
                &mut files,
                "samples.jsonl",
                &stamped,
                entry.t,
                &mut redactor,
            )?,
            Event::Node(_) | Event::GpuNodes(_) => {
                line(&mut files, "nodes.jsonl", &stamped, entry.t, &mut redactor)?
            }
            Event::Test(_) => line(&mut files, "test.jsonl", &stamped, entry.t, &mut redactor)?,
            _ => {}
        }
        update(&mut model, stamped);
    }
    let loss: Loss = reader.loss().clone();
    writer
        .finish(last)?
        .0
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    let scene = Scene::of(&model);
    derived(&model, &scene, &mut files, &mut redactor)?;
    let mut names: Vec<(String, PathBuf)> = files
        .names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.clone(), spool.path(&format!("part-{n}"))))
        .collect();
    names.sort();
    names.push((BUNDLED_RECORDING.to_owned(), spool.path("recording")));
    let manifest = Manifest {
        schema: SCHEMA,
        program_version: env!("CARGO_PKG_VERSION"),
        verb: header.verb.clone(),
        started: header.started,
        redacted: header.redacted,
        taken: redactor.taken(),
        missing: loss.sentence(),
        files: names.iter().map(|(name, _)| name.clone()).collect(),
    };
    let out = zstd::stream::write::Encoder::new(BufWriter::new(out), 3)?;
    let time = u64::try_from(header.started / 1_000_000_000).unwrap_or(0);
    let mut archive = Archive::new(out, time);
    let first = serde_json::to_vec_pretty(&manifest)?;
    archive.add(
        &format!("{BUNDLE}/manifest.json"),
        first.len() as u64,
        &first[..],
    )?;
    for (name, path) in names {
        let mut file = File::open(path)?;
        let size = file.seek(io::SeekFrom::End(0))?;
        file.rewind()?;
        archive.add(&format!("{BUNDLE}/{name}"), size, BufReader::new(file))?;
    }
    let file = archive.finish()?.finish()?;
    file.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(manifest)
}

/// Reads a recording once, so that the redactor knows every value that is named in it.
fn learn(recording: &Path, redactor: &mut Redactor) -> anyhow::Result<()> {
    if !redactor.is_on() {
        return Ok(());
    }
    let mut scratch = redactor.clone();
    let mut sink = Vec::new();
    for (seq, entry) in (1..).zip(Reader::open(recording)?) {
        let stamped = Stamped {
            seq,
            at: entry.at,
            event: entry.event,
        };
        encode(&stamped, entry.t, &mut scratch, &mut sink)?;
        sink.clear();
    }
    // The values alone: what was taken out is counted where it is written.
    redactor.know_what(&scratch);
    Ok(())
}

fn line(
    files: &mut Files<'_>,
    name: &str,
    stamped: &Stamped,
    t: Nanos,
    redactor: &mut Redactor,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    encode(stamped, t, redactor, &mut bytes)?;
    bytes.push(b'\n');
    files.append(name, &bytes)
}

/// What follows from the whole of it, for those who have no ncclscope at hand.
fn derived(
    model: &Model,
    scene: &Scene,
    files: &mut Files<'_>,
    redactor: &mut Redactor,
) -> anyhow::Result<()> {
    for (key, pod) in model.pods.iter() {
        let name = format!("pods/{}/{}.yaml", tame(&key.namespace), tame(&key.name));
        // The object as the API server has it; else what is known of it, under the same names.
        let yaml = match &pod.yaml {
            Some(yaml) => yaml.to_string(),
            None => {
                let mut known = serde_json::to_value(pod)?;
                redactor.tree(&mut known);
                serde_yaml::to_string(&known)?
            }
        };
        files.append(&name, redactor.text(&yaml).as_bytes())?;
    }
    let mut env = String::new();
    for (key, pod) in model.pods.iter() {
        for c in &pod.containers {
            for (name, value) in &c.env {
                let value = value.as_deref().unwrap_or("(from elsewhere)");
                let value = redactor.named(name, value);
                env.push_str(&format!("{}/{} {name}={value}\n", key.name, c.name));
            }
        }
    }
    for p in &scene.processes {
        for (name, value) in &p.env {
            let value = redactor.named(name, value);
            env.push_str(&format!("{} (its log) {name}={value}\n", p.place()));
        }
    }
    if !env.is_empty() {
        files.append("env.txt", env.as_bytes())?;
    }
    let shared = RefCell::new(std::mem::take(redactor));
    let mut page = Vec::new();
    json::write(&mut page, &Report::of(scene, None), &shared)?;
    *redactor = shared.into_inner();
    files.append("report.json", &page)?;
    page.clear();
    text::write(&mut page, scene, text::Style::default())?;
    files.append("report.txt", &redactor.bytes(&page))?;
    page.clear();
    markdown::write(&mut page, scene, redactor)?;
    files.append("report.md", &page)?;
    page.clear();
    html::write(&mut page, scene, model, redactor)?;
    files.append("report.html", &page)?;
    Ok(())
}
