//! The long texts of `--help`: what a person reads who has five minutes.

/// What Larder is.
pub(super) const ABOUT: &str = "\
A shared build cache over a bucket or a directory

Larder is a stateless gateway: build tools speak their own cache protocols to it, and it keeps everything as \
plainly named objects in one S3-compatible bucket or one directory. Any number of Larders over the same bucket \
are one cache.";

/// After the help of `larder`.
pub(super) const LARDER: &str = "\
Every flag of --store and its like is also an environment variable: LARDER_ and its name in upper case.

Exit codes: 0 done; 1 failed, or not found; 2 wrong usage; 3 the store failed.

Examples:
  larder serve
  larder serve --store s3://bucket/cache --listen 0.0.0.0:8080 --users /etc/larder/users
  larder ls -l artifact/linux_amd64
  larder serve --help";

/// After the help of `larder serve`.
pub(super) const SERVE: &str = "\
SIGTERM and SIGINT end it: requests under way are given --drain-timeout, a second signal ends it at once.
Credentials of a bucket come from where AWS's own tools look: environment, profile, roles of pods and machines.

Examples:
  larder serve
      A cache for this machine, in the user's data directory.
  larder serve --store s3://bucket/cache --s3-region eu-west-1 --listen 0.0.0.0:8080 --users users --groups groups
      A cache for everybody, over a bucket; who is in the group `writers` may store.
  larder serve --store s3://cache --s3-endpoint http://minio:9000 --anonymous read --users users
      Over MinIO; whoever has no credentials may read.
  larder serve --listen 0.0.0.0:8443 --tls-cert server.pem --tls-key server.key --client-ca ca.pem \\
      --writable-certs ci/ --readonly-certs developers/
      Over TLS; who shows a certificate that is in the directory `ci` may store, in `developers` read.
  LARDER_STORE=/srv/larder LARDER_LISTEN=0.0.0.0:8080 larder serve
      The same flags, by environment.";

/// After the help of `larder curd-server`.
pub(super) const CURD_SERVER: &str = "\
Every wheel and source archive in the folder, at whatever depth, is served: over Curdling's API, and on pages that pip
and uv read (/simple/). What is dropped there is seen by the next request, and uploads appear at the top as plain files.
Nothing is written beside them but a hidden directory for uploads under way, and markers of what is yanked.

Examples:
  larder curd-server wheelhouse
  larder curd-server -H 127.0.0.1 -p 8080 -u users /srv/wheels";

/// After the help of `larder ls`.
pub(super) const LS: &str = "\
Exits 1 where there is nothing under one of the prefixes.

Examples:
  larder ls
  larder ls -l artifact/linux_amd64/src/core
  larder ls -r --json please | jq -s 'map(.size) | add'";

/// After the help of `larder get`.
pub(super) const GET: &str = "\
Exits 1 where there is no such object. What is read is checked against the checksum it was stored with: where that
fails, no file is written and the exit code is 3.

Examples:
  larder get please/4f/4f1d… -o entry
  larder get artifact/linux_amd64/src/core/core/HASH/core.a | sha256sum";

/// After the help of `larder put`.
pub(super) const PUT: &str = "\
Examples:
  larder put notes/readme.txt README.txt
  tar c out | larder put snapshots/out.tar --create";

/// After the help of `larder rm`.
pub(super) const RM: &str = "\
Before more than one object is removed, a person is asked; where there is no terminal to ask on, --yes must be
given. Exits 1 where there was nothing to remove, 3 where something could not be removed.

Examples:
  larder rm --dry-run artifact/linux_amd64/src/core
  larder rm --yes artifact/linux_amd64/src/core artifact/darwin_arm64/src/core
  larder rm --all --yes --store s3://bucket/cache";

/// After the help of `larder yank`.
pub(super) const YANK: &str = "\
Exits 1 where one of them is not there; the others are yanked all the same. What is yanked stays in the store, and
installs of its very version go on to work (PEP 592).

Examples:
  larder yank foo==1.0 --reason 'breaks on leap days'
  larder yank foo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl --store s3://bucket/cache
  larder yank foo==1.0 --undo";

/// After the help of `larder unpublish`.
pub(super) const UNPUBLISH: &str = "\
Exits 1 where one of them is not there; the others are removed all the same. The record goes first, so no page lists a
file that is gone. A name that was unpublished may be used again, also for other bytes.

Examples:
  larder unpublish foo==1.0
  larder unpublish foo-1.0.tar.gz
  larder unpublish foo==1.0 --environment cp312-x86_64-debian12";

/// After the help of `larder cache_cleaner`.
pub(super) const CACHE_CLEANER: &str = "\
The same as `larder sweep --please-dir`. A link to this program that is called cache_cleaner needs no command.

Examples:
  larder cache_cleaner --dir ~/.cache/please --high_water_mark 10G --low_water_mark 8G -v
  ln -s /usr/bin/larder ~/.please/cache_cleaner";

/// After the help of `larder push`.
pub(super) const PUSH: &str = "\
Asks for each file whether it is there, and sends those that are not. Entries that hold links are left out: HTTP \
cannot carry these. Exits 0 where all others are there now, 1 where some failed or the credentials are refused, \
3 where the cache cannot be reached or the directory not be read.

Examples:
  larder push --please-dir ~/.cache/please -c http://cache.example.org:8080 --os linux_amd64
  LARDER_USER=ci:PASSWORD larder push --please-dir .plz-cache -c https://cache.example.org --os linux_amd64 --json";
/// After the help of `larder du`.
pub(super) const DU: &str = "\
An entry is what a client stores as one: all files of a target with one hash, or one key. Its last use is the newest
time of its objects; in a directory, that of the last reading, where the file system keeps it. Lines come in the order
of the listing, and memory does not grow with what is stored.

Examples:
  larder du
  larder du --by package --prefix artifact/linux_amd64
  larder du --by target --json | jq -s 'map(select(.place)) | sort_by(-.bytes) | .[:20]'";

/// After the help of `larder sweep`.
pub(super) const SWEEP: &str = "\
Without --max-age and marks only leftovers go: parts of entries whose Store broke off, sidecars of nothing, and
uploads that nobody finishes. Sweeps may run at once, beside gateways, and be killed at any time.

Exit codes: 0 done; 1 more is left than the mark, and nothing more may go; 2 wrong usage; 3 the store failed, or
refused to remove something.

Examples:
  larder sweep --dry-run --max-age 30d
  larder sweep --high-water 2TiB --low-water 1800GiB --store s3://bucket/cache
  larder sweep --max-age 90d --prefix please --json
  larder sweep --high-water 50GiB --low-water 40GiB --every 1h

With --please-dir it is a directory cache of Please on this machine that is swept: entries whole, the least recently
used first, of those used within ten minutes of each other the largest first. What is locked, being written, or used
meanwhile stays. Sizes are what `du` counts there; the marks are 10G and 8G where they are not named.

  larder sweep --please-dir ~/.cache/please
  larder sweep --please-dir .plz-cache --high-water 2GiB --dry-run";

/// After the help of `larder lifecycle`.
pub(super) const LIFECYCLE: &str = "\
Rules are the bucket's own: it removes what is old by itself, for nothing, while no Larder runs. Larder's are known by
their names, which begin with larder- and end with the store's place in the bucket; no other rule is ever touched.

Exit codes: 0 done, or all is well; 1 problems, or not done; 2 wrong usage, a directory among it; 3 the store failed.

Examples:
  larder lifecycle apply --dry-run --store s3://bucket/cache
  larder lifecycle apply --store s3://bucket/cache --expire-please 14d
  larder lifecycle check --store s3://bucket/cache
  larder lifecycle print --store s3://bucket/cache --format terraform";

/// After the help of `larder lifecycle print`.
pub(super) const LIFECYCLE_PRINT: &str = "\
Each of these owns all rules of a bucket: where it has others, add them before you use the output.

Examples:
  larder lifecycle print --store s3://bucket/cache > rules.json
  aws s3api put-bucket-lifecycle-configuration --bucket bucket --lifecycle-configuration file://rules.json
  larder lifecycle print --store s3://bucket/cache --format terraform > lifecycle.tf";

/// After the help of `larder lifecycle apply`.
pub(super) const LIFECYCLE_APPLY: &str = "\
Each line is one rule: + new, ~ exchanged, - taken out, = as it should be, ! not for this server. The rules of others
go back as they came, byte for byte. Where somebody else changes them at the same time, it says so and exits 1.

Examples:
  larder lifecycle apply --dry-run --store s3://bucket/cache
  larder lifecycle apply --store s3://bucket/cache --expire-artifacts 14d --expire-wheels never";

/// After the help of `larder lifecycle check`.
pub(super) const LIFECYCLE_CHECK: &str = "\
Run where the gateway runs it reads the same LARDER_EXPIRE_* and LARDER_REFRESH. Exits 0 where there are no problems (notes
are none), 1 where there are, 3 where the bucket cannot be asked.

Examples:
  larder lifecycle check --store s3://bucket/cache
  larder lifecycle check --json | jq -r '.findings[].mend'";

/// After the help of `larder lifecycle remove`.
pub(super) const LIFECYCLE_REMOVE: &str = "\
Nothing expires then, but by the rules of others.

Examples:
  larder lifecycle remove --dry-run --store s3://bucket/cache
  larder lifecycle remove --store s3://bucket/cache";

/// After the help of `larder doctor`.
pub(super) const DOCTOR: &str = "\
Asks a bucket or a directory everything that the gateway stands on: permissions, conditional writes, checksums, listings,
clock, versions, rules, room. Run it as the gateway runs: by the same user, in the same environment. What it writes lies
below one name of its own, `.larder-doctor`, and is removed again, also where it is interrupted. With --for sweep or
reader nothing is written. What each check means is in docs/doctor.md.

Exit codes: 0 all is well, or there are only warnings; 1 a check failed, or with --strict there are warnings; 2 wrong
usage; 3 the store cannot be reached at all.

Examples:
  larder doctor --store s3://bucket/cache
  larder doctor --store s3://bucket/cache --for sweep --strict
  larder doctor --json | jq '.checks[] | select(.state == \"fail\")'
  larder doctor --policy --store s3://bucket/cache > policy.json
  larder doctor --url http://127.0.0.1:8081";

/// After the help of `larder healthcheck`.
pub(super) const HEALTHCHECK: &str = "\
Waits 3 seconds at most. Takes the same LARDER_LISTEN, LARDER_OPS_LISTEN and LARDER_TLS_CERT as
`larder serve`, so that in a container it needs no arguments. An https server's certificate is not
checked: the question holds no secret.

Examples:
  larder healthcheck
  larder healthcheck http://127.0.0.1:8080/healthz
  larder healthcheck https://127.0.0.1:8443/healthz";

/// After the help of `larder version`.
pub(super) const VERSION: &str = "\
Examples:
  larder version";

/// After the help of `larder completions`.
pub(super) const COMPLETIONS: &str = "\
Examples:
  larder completions bash > /etc/bash_completion.d/larder
  larder completions zsh > ~/.zfunc/_larder
  larder completions fish > ~/.config/fish/completions/larder.fish";

/// After the help of `larder man`.
pub(super) const MAN: &str = "\
Examples:
  larder man | man -l -
  larder man serve > /usr/local/share/man/man1/larder-serve.1";
