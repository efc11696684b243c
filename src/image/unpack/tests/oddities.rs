//! What images of strangers have, and other runtimes take.

use super::*;

/// A file behind a path of any length.
fn file(builder: &mut Builder, path: &str) {
    builder.pax(&[("path", path.as_bytes())]).file("x", b"1");
}

#[test]
fn paths_are_deep_and_lead_back() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let deep = "d/".repeat(900);
    let mut builder = Builder::default();
    file(&mut builder, &format!("{deep}f"));
    file(&mut builder, "a/../b");
    file(&mut builder, "./c/./../c/./d/../../e");
    place.unpack(&builder.end()).unwrap();
    assert_eq!(fs::read(place.path(&format!("{deep}f"))).unwrap(), b"1");
    assert!(place.path("b").is_file() && place.path("e").is_file());
    assert!(!place.path("a").exists());
    let mut builder = Builder::default();
    file(&mut builder, &format!("{}f", "d/".repeat(1100)));
    assert!(refused(Place::new().unpack(&builder.end())).contains("1024"));
}

#[test]
fn links_lead_up_from_deep_places() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let deep = "d/".repeat(300);
    let mut builder = Builder::default();
    builder.directory("top", 0o755, (0, 0));
    file(&mut builder, &format!("{deep}f"));
    let up = format!("{}top", "../".repeat(300));
    builder
        .pax(&[("path", format!("{deep}up").as_bytes()), ("linkpath", up.as_bytes())])
        .symlink("x", "y");
    file(&mut builder, &format!("{deep}up/new/g"));
    place.unpack(&builder.end()).unwrap();
    assert_eq!(fs::read(place.path("top/new/g")).unwrap(), b"1");
}

#[test]
fn a_mark_of_overlay_hides_as_it_did_where_it_was_made() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder.directory("dd", 0o755, (0, 0)).device(b'3', "dd/n", 0, 0).device(b'3', "dd/m", 0, 0);
    builder.file("dd/m", b"after all");
    place.unpack(&builder.end()).unwrap();
    assert!(place.is_whiteout("dd/n"));
    assert_eq!(fs::read(place.path("dd/m")).unwrap(), b"after all");
}

#[test]
fn paths_have_a_budget_of_work() {
    if !is_root() {
        return;
    }
    // Each link leads back and forth a thousand times, and to the next link.
    let mut builder = Builder::default();
    builder.directory("a", 0o755, (0, 0));
    for number in 0..30 {
        let target = format!("{}l{}", "a/../".repeat(800), number + 1);
        builder.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("l{number}"), "x");
    }
    builder.directory("l30", 0o755, (0, 0));
    for number in 0..1000 {
        file(&mut builder, &format!("l0/{number}/f"));
    }
    let result = Place::new().unpack(&builder.end());
    assert!(matches!(result, Err(Failure::TooLarge(_))), "{result:?}");
}

#[test]
fn an_honest_tree_of_links_is_within_the_budget() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut builder = Builder::default();
    builder.directory("usr", 0o755, (0, 0)).symlink("lib", "usr/lib").symlink("usr/lib", "lib64");
    for number in 0..3000 {
        file(&mut builder, &format!("lib/modules/{}/kernel/drivers/{number}", number % 500));
    }
    place.unpack(&builder.end()).unwrap();
    assert!(place.path("usr/lib64/modules/7/kernel/drivers/7").is_file());
}

#[test]
fn a_stack_has_a_budget_of_work() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("a")).unwrap();
    for number in 0..30 {
        let target = format!("{}l{}", "a/../".repeat(800), number + 1);
        std::os::unix::fs::symlink(target, root.join(format!("l{number}"))).unwrap();
    }
    fs::create_dir(root.join("l30")).unwrap();
    let layers = vec![root.to_owned(); 100];
    let stack = Stack::open(&layers).unwrap();
    let outcomes: Vec<bool> = (0..30).map(|_| stack.has(Path::new("l0")).is_ok()).collect();
    assert!(outcomes.iter().any(|is_ok| !is_ok), "it looks and looks");
    // What is asked for next is no worse off for it, if it is simple.
    assert_eq!(Stack::open(&layers).unwrap().link(b"l29").unwrap().as_deref(), Some(&b"l30"[..]));
}
