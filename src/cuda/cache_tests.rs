use super::*;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

fn key(text: &str) -> Key {
    Key::new(&[("text", text.as_bytes())])
}

fn compiled(image: &[u8]) -> Compiled {
    Compiled { kind: Kind::Cubin, image: image.into(), log: "registers".into(), took: None }
}

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = Cache::new(Some(folder.path().join("below/that/does/not/exist")));
    (folder, cache)
}

fn file(cache: &Cache, key: Key) -> PathBuf {
    cache.folder().expect("it is on disk").join(key.file())
}

#[test]
fn what_is_put_is_got() {
    let (_folder, cache) = cache();
    assert_eq!(cache.get(key("a")), None);
    assert_eq!(cache.entries().expect("readable").len(), 0);
    cache.put(key("a"), &compiled(b"image"));
    assert_eq!(cache.get(key("a")), Some(compiled(b"image")));
    assert_eq!(cache.get(key("b")), None);
    assert_eq!(cache.take_warning(), None);
    let other = Cache::new(cache.folder().map(Path::to_path_buf));
    assert_eq!(other.get(key("a")), Some(compiled(b"image")));
    other.remove(key("a"));
    assert_eq!(cache.get(key("a")), None);
}

/// Fields are told apart by name and length, not by what they concatenate to.
#[test]
fn keys_differ_where_any_field_does() {
    let keys = [
        Key::new(&[("a", b"bc")]),
        Key::new(&[("ab", b"c")]),
        Key::new(&[("a", b"b"), ("c", b"")]),
        Key::new(&[("a", b""), ("b", b"c")]),
        Key::new(&[("a", b"bd")]),
        Key::new(&[]),
    ];
    for (i, a) in keys.iter().enumerate() {
        assert!(keys[..i].iter().all(|b| a != b), "{i}");
    }
    assert_eq!(key("same"), key("same"));
}

/// Every single byte of an entry matters: a flip of any, or a cut anywhere, is seen, and the entry made again.
#[test]
fn a_damaged_entry_is_deleted_and_made_again() {
    let (_folder, cache) = cache();
    let a = key("a");
    cache.put(a, &compiled(b"image"));
    let path = file(&cache, a);
    let whole = std::fs::read(&path).expect("an entry");
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        for wrong in [&damaged[..], &whole[..at]] {
            std::fs::write(&path, wrong).expect("written");
            assert_eq!(cache.entries().expect("readable")[0].kind, None, "byte {at}");
            assert_eq!(cache.get(a), None, "byte {at}");
            assert!(!path.exists());
        }
    }
    let mut made = 0;
    for _ in 0..3 {
        let got = cache.get_or(a, || {
            made += 1;
            Ok::<_, Infallible>(compiled(b"again"))
        });
        assert_eq!(got, Ok(compiled(b"again")));
    }
    assert_eq!(made, 1);
}

/// An entry under the name of another is not taken for it.
#[test]
fn a_renamed_entry_is_damaged() {
    let (_folder, cache) = cache();
    cache.put(key("a"), &compiled(b"image"));
    std::fs::rename(file(&cache, key("a")), file(&cache, key("b"))).expect("renamed");
    assert_eq!(cache.entries().expect("readable")[0].kind, None);
    assert_eq!(cache.get(key("b")), None);
}

#[test]
fn a_folder_that_cannot_be_written_leaves_memory_and_one_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a file");
    std::fs::write(&file, "in the way").expect("written");
    for cache in [Cache::new(Some(file.join("cache"))), Cache::new(Some(file)), Cache::new(None)] {
        assert_eq!(cache.get(key("a")), None);
        assert_eq!(cache.take_warning(), None, "nothing was lost yet");
        cache.put(key("a"), &compiled(b"image"));
        cache.put(key("b"), &compiled(b"other"));
        assert_eq!(cache.get(key("a")), Some(compiled(b"image")));
        assert!(cache.take_warning().is_some_and(|w| w.contains("memory")));
        assert_eq!(cache.take_warning(), None);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("a file")).expect("it is there"), "in the way");
}

#[test]
fn clearing_deletes_entries_and_litter_and_nothing_else() {
    let (_folder, cache) = cache();
    assert_eq!(cache.clear().expect("cleared"), 0);
    cache.put(key("a"), &compiled(b"image"));
    let folder = cache.folder().expect("it is on disk");
    std::fs::write(folder.join(".jetc-dead.kernel"), "half").expect("written");
    std::fs::write(folder.join("notes.txt"), "mine").expect("written");
    assert_eq!(cache.entries().expect("readable").len(), 1);
    assert_eq!(cache.clear().expect("cleared"), 2);
    assert!(folder.join("notes.txt").exists());
    assert_eq!(cache.get(key("a")), None);
}

/// Writers, readers, damage and deletion at once: whoever asks gets what belongs to the key.
#[test]
fn many_at_once() {
    let (_folder, first) = cache();
    let folder = first.folder().map(Path::to_path_buf);
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8usize {
            let (folder, made) = (folder.clone(), &made);
            scope.spawn(move || {
                // each its own cache, as processes have
                let cache = Cache::new(folder);
                for round in 0..60usize {
                    let name = format!("{}", (round + thread) % 5);
                    let image = vec![name.as_bytes()[0]; 20_000];
                    let got = cache.get_or(key(&name), || {
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok::<_, Infallible>(compiled(&image))
                    });
                    assert_eq!(got, Ok(compiled(&image)));
                    match (thread, round % 7) {
                        (0, 0) => cache.remove(key(&name)),
                        (1, 3) => drop(std::fs::write(file(&cache, key(&name)), &image[..round])),
                        _ => {}
                    }
                }
                assert_eq!(cache.take_warning(), None);
            });
        }
    });
    assert!(made.into_inner() >= 5);
    let names: Vec<_> = std::fs::read_dir(first.folder().expect("on disk")).expect("readable").flatten().collect();
    assert!(names.iter().all(|n| !n.file_name().to_string_lossy().starts_with('.')), "no litter: {names:?}");
}
