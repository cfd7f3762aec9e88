//! Applying: the plan as changes of files, and where they go.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::checkout::FileChange;
use crate::model::layout::rendered_folder;
use crate::pipeline::plan::{Action, FileStep, NewText, ObjectChange, Plan, Step};
use crate::pipeline::program::{Program, Stop};
use crate::pipeline::render::{Given, RenderContext, RenderedCluster};
use crate::pipeline::run::Decided;
use crate::types::name::ClusterName;
use crate::types::object::YamlError;

/// The plan as file changes: the lock first, then the tree; files of the lock that go do so last, since a tree without its lock is
/// taken for one that lost it. Takes the texts out of the plan.
pub(crate) fn changes(
    program: &Program,
    decided: &Decided,
    given: &Given,
    plan: &mut Plan,
) -> Result<Vec<FileChange>, Stop> {
    let of_lock = plan.lock.iter_mut().map(|step| change(&step.path, step.text.take().map(|text| text.0)));
    let (mut changes, forgotten): (Vec<_>, Vec<_>) =
        of_lock.partition(|change| matches!(change, FileChange::Write { .. }));
    let mut by_cluster: BTreeMap<&str, Vec<Pending<'_>>> = BTreeMap::new();
    for Step { id, objects, .. } in &mut plan.steps {
        for ObjectChange { path, action, text, .. } in objects {
            by_cluster.entry(id.cluster.as_str()).or_default().push((path, *action, text));
        }
    }
    for FileStep { path, action, text, .. } in &mut plan.extra {
        let path: &str = path;
        let cluster = path.split('/').nth(1).unwrap_or_default();
        by_cluster.entry(cluster).or_default().push((path, *action, text));
    }
    let lacks_text = |(_, action, text): &Pending<'_>| *action != Action::Delete && text.is_none();
    let lacks_any = by_cluster.values().flatten().any(lacks_text);
    let context = || RenderContext::new(&program.mesh, &decided.advanced.lock, &program.templates, given);
    let context = lacks_any.then(context).transpose().map_err(Stop::Findings)?;
    let written: Result<Vec<Vec<FileChange>>, Stop> = by_cluster
        .into_par_iter()
        .map(|(name, files)| {
            let texts = match (&context, program.mesh.clusters.get_key_value(name)) {
                (Some(context), Some((name, _))) if files.iter().any(lacks_text) => {
                    texts(name, context.render(name).map_err(Stop::Findings)?)?
                }
                _ => BTreeMap::new(),
            };
            let one = |(path, action, text): Pending<'_>| match action {
                Action::Delete => change(path, None),
                _ => change(path, text.take().map(|text| text.0).or_else(|| texts.get(path).cloned())),
            };
            Ok(files.into_iter().map(one).collect())
        })
        .collect();
    changes.extend(written?.into_iter().flatten());
    changes.extend(forgotten);
    Ok(changes)
}

/// A file that changes: its path, what becomes of it, and its new text where the plan kept it.
type Pending<'a> = (&'a str, Action, &'a mut Option<NewText>);

/// All files of a rendered cluster by path.
fn texts(cluster: &ClusterName, rendered: RenderedCluster) -> Result<BTreeMap<String, String>, YamlError> {
    let folder = rendered_folder(cluster);
    let objects = rendered.objects.into_iter();
    let objects =
        objects.map(|rendered| Ok((format!("{folder}/{}", rendered.id().file_name()), rendered.into_yaml()?)));
    let extra = rendered.extra.into_iter().map(|(path, file)| Ok((path, file.text)));
    objects.chain(extra).collect()
}

/// A file gets this text, or goes.
fn change(path: &str, text: Option<String>) -> FileChange {
    match text {
        Some(text) => FileChange::Write { path: path.to_owned(), bytes: text.into_bytes(), mode: 0o644 },
        None => FileChange::Delete { path: path.to_owned() },
    }
}
