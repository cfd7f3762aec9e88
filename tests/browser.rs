//! The page in a real headless Chromium, driven by tests/browser/check.mjs.
//!
//! Where Chromium, node or its two packages are not installed the test prints it and passes, but in CI it fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use isthmus::report::picture::{Health, LinkPicture, Picture};

use crate::picture::{joined, with_fault};
use crate::support::world::ClusterFault;

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The browser, or `None` where the test is to be skipped, which CI does not allow.
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
fn browser(scripts: &Path) -> Option<PathBuf> {
    let named = std::env::var_os("ISTHMUS_CHROMIUM").map(PathBuf::from);
    let browser = named.or_else(|| BROWSERS.into_iter().find_map(on_path));
    let missing = match &browser {
        None => Some("Chromium"),
        Some(_) if on_path("node").is_none() => Some("node"),
        Some(_) if !scripts.join("node_modules/playwright-core").exists() => {
            Some("what `npm ci --prefix tests/browser` installs")
        }
        Some(_) => None,
    };
    let Some(missing) = missing else { return browser };
    assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "browser: {missing} must be there in CI");
    eprintln!("browser: skipped, without {missing}");
    None
}

/// A mesh of many clusters like the given one's first: all joined but for what `edit` says.
fn crowd(like: &Picture, names: &[String], edit: impl Fn(&mut Picture)) -> Picture {
    let mut picture = like.clone();
    let cluster = like.clusters.values().next().unwrap().clone();
    let link = like.links.values().next().unwrap().values().next().unwrap().clone();
    picture.clusters = names.iter().map(|name| (name.clone(), cluster.clone())).collect();
    let links = |name: &String| {
        names.iter().filter(|peer| *peer != name).map(|peer| (peer.clone(), link.clone())).collect::<BTreeMap<_, _>>()
    };
    picture.links = names.iter().map(|name| (name.clone(), links(name))).collect();
    edit(&mut picture);
    picture.counts.clusters.clear();
    picture.counts.links.clear();
    for cluster in picture.clusters.values() {
        *picture.counts.clusters.entry(cluster.state).or_default() += 1;
    }
    for link in picture.links.values().flat_map(BTreeMap::values) {
        *picture.counts.links.entry(link.state).or_default() += 1;
    }
    picture
}

fn each_link_with<'a>(picture: &'a mut Picture, name: &'a str) -> impl Iterator<Item = &'a mut LinkPicture> {
    picture.links.iter_mut().flat_map(move |(reader, links)| {
        links.iter_mut().filter(move |(peer, _)| reader == name || *peer == name).map(|(_, link)| link)
    })
}

fn spoil(picture: &mut Picture, name: &str, health: Health, reason: &str) {
    for link in each_link_with(picture, name) {
        link.state = health;
        link.reasons = vec![reason.to_owned()];
    }
}

#[test]
fn the_page_works_in_a_real_browser() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let Some(browser) = browser(&scripts) else { return };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();

    let three = joined();
    write("three.html", &three.html());
    write("files.html", &Picture { asked: false, ..three.clone() }.html());
    let broken = with_fault(ClusterFault::Down);
    write("broken.html", &broken.html());
    let names = |count: usize| (1..=count).map(|at| format!("site-{at:03}")).collect::<Vec<_>>();
    let forty = crowd(&three, &names(40), |picture| {
        picture.clusters.get_mut("site-007").unwrap().state = Health::AtRisk;
        picture.clusters.get_mut("site-009").unwrap().state = Health::Leaving;
        picture.clusters.get_mut("site-011").unwrap().state = Health::Paused;
        spoil(picture, "site-009", Health::Leaving, "it leaves");
        spoil(picture, "site-020", Health::Waiting, "roots to be live");
    });
    write("forty.html", &forty.html());
    let many = crowd(&three, &names(200), |picture| {
        picture.clusters.get_mut("site-042").unwrap().state = Health::Broken;
        spoil(picture, "site-042", Health::Broken, "no answer within 10 s");
        spoil(picture, "site-180", Health::Waiting, "roots to be live");
    });
    write("crowd.html", &many.html());
    let hostile = crowd(&three, &["a-1".to_owned(), "constructor".to_owned()], |picture| {
        let cluster = picture.clusters.get_mut("a-1").unwrap();
        cluster.state = Health::Broken;
        cluster.reasons = vec!["</script><img src=x onerror=alert(1)>\u{2028}".to_owned(), "<!--<script>".to_owned()];
        cluster.roots[0].subject = "CN=\"><svg onload=alert(2)>".to_owned();
        picture.links.get_mut("a-1").unwrap().clear();
    });
    write("hostile.html", &hostile.html());
    write("live.html", &three.live_html());
    write("live.json", &three.json());
    write("news.json", &broken.json());

    let output = Command::new("node")
        .arg(scripts.join("check.mjs"))
        .arg(folder.path())
        .env("ISTHMUS_CHROMIUM", browser)
        .output()
        .unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && printed.contains(" checks passed"), "{printed}");
}
