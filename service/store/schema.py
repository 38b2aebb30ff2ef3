"""The tables. `MIGRATIONS[n]` brings a database of version n to n+1; a released one is never edited."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _sqlite3

# fmt: off
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",

        # containers: `record` is model.container.ContainerRecord as JSON; the columns are ContainerState
        """CREATE TABLE containers (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_ns INTEGER NOT NULL, image_id TEXT NOT NULL,
            record TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'created', pid INTEGER NOT NULL DEFAULT 0,
            conmon_pid INTEGER NOT NULL DEFAULT 0, exit_code INTEGER NOT NULL DEFAULT 0,
            error TEXT NOT NULL DEFAULT '', oom_killed INTEGER NOT NULL DEFAULT 0,
            started_at TEXT NOT NULL DEFAULT '0001-01-01T00:00:00Z',
            finished_at TEXT NOT NULL DEFAULT '0001-01-01T00:00:00Z',
            restart_count INTEGER NOT NULL DEFAULT 0, stopped_by_user INTEGER NOT NULL DEFAULT 0,
            generation INTEGER NOT NULL DEFAULT 0, boot_id TEXT NOT NULL DEFAULT '',
            holds INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        "CREATE INDEX containers_by_age ON containers (created_ns)",
        "CREATE INDEX containers_by_image ON containers (image_id)",
        # which container uses which volume (in-use conflicts, `rm -v`)
        """CREATE TABLE volume_uses (
            volume TEXT NOT NULL, container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
            PRIMARY KEY (volume, container_id)
        ) WITHOUT ROWID""",

        # exec sessions: `record` is Docker's exec config as JSON
        """CREATE TABLE execs (
            id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
            created_ns INTEGER NOT NULL, record TEXT NOT NULL, running INTEGER NOT NULL DEFAULT 0,
            started INTEGER NOT NULL DEFAULT 0, exit_code INTEGER, pid INTEGER NOT NULL DEFAULT 0,
            conmon_pid INTEGER NOT NULL DEFAULT 0, finished_ns INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",
        "CREATE INDEX execs_by_container ON execs (container_id)",

        """CREATE TABLE events (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
            actor_id TEXT NOT NULL, attributes TEXT NOT NULL
        )""",
        "CREATE INDEX events_by_time ON events (time_ns)",

        """CREATE TABLE volumes (
            name TEXT PRIMARY KEY, driver TEXT NOT NULL, created_at TEXT NOT NULL, labels TEXT NOT NULL,
            options TEXT NOT NULL, anonymous INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID""",

        # networks: `record` is Docker's Network as JSON. An address is given out once: UNIQUE says so.
        """CREATE TABLE networks (
            id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, created TEXT NOT NULL,
            record TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE endpoints (
            id TEXT PRIMARY KEY, network_id TEXT NOT NULL REFERENCES networks (id),
            container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
            ipv4 TEXT, ipv6 TEXT, mac TEXT NOT NULL, interface TEXT NOT NULL, host_interface TEXT NOT NULL,
            record TEXT NOT NULL,
            UNIQUE (network_id, ipv4), UNIQUE (network_id, ipv6), UNIQUE (network_id, container_id)
        ) WITHOUT ROWID""",
        """CREATE TABLE ports (
            container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
            protocol TEXT NOT NULL, host_ip TEXT NOT NULL, host_port INTEGER NOT NULL, container_port INTEGER NOT NULL,
            container_ip TEXT NOT NULL, PRIMARY KEY (protocol, host_ip, host_port)
        ) WITHOUT ROWID""",
        "CREATE INDEX endpoints_by_container ON endpoints (container_id)",
        "CREATE INDEX ports_by_container ON ports (container_id)",

        # images: `config` is the image's own configuration blob (OCI image-spec config.md), verbatim: its digest is
        # the id. `manifest` is the digest of the manifest it came by (a blob), empty when it came without one.
        """CREATE TABLE images (
            id TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, size INTEGER NOT NULL, config TEXT NOT NULL,
            manifest TEXT NOT NULL DEFAULT '', tagged_ns INTEGER NOT NULL DEFAULT 0, parent TEXT NOT NULL DEFAULT ''
        ) WITHOUT ROWID""",
        """CREATE TABLE image_layers (
            image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, position INTEGER NOT NULL,
            chain_id TEXT NOT NULL REFERENCES layers (chain_id), PRIMARY KEY (image_id, position)
        ) WITHOUT ROWID""",
        "CREATE INDEX image_layers_by_chain ON image_layers (chain_id)",
        """CREATE TABLE image_tags (
            reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
        ) WITHOUT ROWID""",
        """CREATE TABLE image_digests (
            reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
        ) WITHOUT ROWID""",
        """CREATE TABLE layers (
            chain_id TEXT PRIMARY KEY, diff_id TEXT NOT NULL, parent TEXT NOT NULL DEFAULT '',
            directory TEXT NOT NULL UNIQUE, size INTEGER NOT NULL
        ) WITHOUT ROWID""",
        # the compressed form of a layer as a registry had it: lets a push mount or skip what is already there
        """CREATE TABLE layer_blobs (
            diff_id TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
            repository TEXT NOT NULL, PRIMARY KEY (diff_id, digest, repository)
        ) WITHOUT ROWID""",
        "CREATE INDEX layers_by_diff ON layers (diff_id)",
        "CREATE INDEX layer_blobs_by_digest ON layer_blobs (digest)",
        """CREATE TABLE blobs (
            digest TEXT PRIMARY KEY, size INTEGER NOT NULL, media_type TEXT NOT NULL, created_ns INTEGER NOT NULL
        ) WITHOUT ROWID""",
        # what an unfinished verb needs to be kept from collection: `owner` is the pid and boot that hold it
        """CREATE TABLE leases (
            object TEXT NOT NULL, owner TEXT NOT NULL, created_ns INTEGER NOT NULL, PRIMARY KEY (object, owner)
        ) WITHOUT ROWID""",
        "CREATE INDEX image_tags_by_image ON image_tags (image_id)",
        "CREATE INDEX image_digests_by_image ON image_digests (image_id)",
    ),
    (
        # the keeper's work: `duties` (engine.duty) while a container runs; restarts: `backoff_ms` is the last wait,
        # `restart_due` its end (CLOCK_MONOTONIC, ns), `restart_canceled` by a kill or stop until the next start
        "ALTER TABLE containers ADD COLUMN duties TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE containers ADD COLUMN backoff_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE containers ADD COLUMN restart_due INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE containers ADD COLUMN restart_canceled INTEGER NOT NULL DEFAULT 0",
        # the keeper's question after every ring of the bell: answered from this index alone
        """CREATE INDEX containers_kept ON containers (status, generation, duties, restart_due)
            WHERE duties <> '' OR status = 'restarting'""",

        # `log`: the last probes (API: HealthcheckResult), as JSON, the oldest first
        """CREATE TABLE health (
            container_id TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,
            status TEXT NOT NULL, failing_streak INTEGER NOT NULL, log TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        # `docker ps` beside a thousand stopped containers, and the question of every cold start: rows are 3 KB, and
        # without these all of them are read (5 ms each time)
        "CREATE INDEX containers_by_status ON containers (status, created_ns)",
        """CREATE INDEX containers_in_care ON containers (id)
            WHERE holds OR kept OR status IN ('running', 'paused', 'restarting', 'removing')""",
    ),
    (
        # legacy links: by which alias a container calls another. The child may be gone, then its last name is shown
        """CREATE TABLE links (
            parent_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE, alias TEXT NOT NULL,
            child_id TEXT NOT NULL, child_name TEXT NOT NULL, PRIMARY KEY (parent_id, alias)
        ) WITHOUT ROWID""",
        "CREATE INDEX links_by_child ON links (child_id)",
    ),
    (
        # `built`: made here, by build or commit. A build's cache trusts no other: a loaded image may claim any parent
        "ALTER TABLE images ADD COLUMN built INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX images_by_parent ON images (parent)",
    ),
    (
        # `unflushed`: the boot in which the layer was registered, until it is known to have reached the disk
        "ALTER TABLE layers ADD COLUMN unflushed TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX layers_unflushed ON layers (unflushed) WHERE unflushed <> ''",
    ),
    (
        # when the processes of `pid` and `conmon_pid` started, in clock ticks since boot: pids are given out again
        "ALTER TABLE containers ADD COLUMN pid_start INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE containers ADD COLUMN conmon_start INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE execs ADD COLUMN pid_start INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE execs ADD COLUMN conmon_start INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # containers of a BuildKit build's steps: no client is told of them
        "ALTER TABLE containers ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0",
        # what builds keep: a step's layer (`chain_id`), or a directory (`directory`: of cache mounts, contexts).
        # `key` says what it is the result of; `parent` is the chain that it stands on.
        """CREATE TABLE build_cache (
            id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, type TEXT NOT NULL, parent TEXT NOT NULL,
            chain_id TEXT NOT NULL, directory TEXT NOT NULL, description TEXT NOT NULL, size INTEGER NOT NULL,
            created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL, uses INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX build_cache_by_chain ON build_cache (chain_id)",
    ),
    (
        # finished builds, and the blobs (files of `content.build_records`) that tell what happened in them
        """CREATE TABLE build_history (
            ref TEXT PRIMARY KEY, created_ns INTEGER NOT NULL, completed_ns INTEGER NOT NULL, pinned INTEGER NOT NULL,
            size INTEGER NOT NULL, record TEXT NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX build_history_by_age ON build_history (completed_ns)",
        """CREATE TABLE build_history_blobs (
            digest TEXT NOT NULL, ref TEXT NOT NULL REFERENCES build_history (ref) ON DELETE CASCADE,
            PRIMARY KEY (digest, ref)
        ) WITHOUT ROWID""",
        "CREATE INDEX build_history_blobs_by_ref ON build_history_blobs (ref)",
    ),
)
# fmt: on


def migrate(connection: "_sqlite3.Connection") -> None:
    """Bring the database up to date; nothing is written when it is."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS):
        raise RuntimeError(f"the database is of a newer moorage (schema {version}, this one knows {len(MIGRATIONS)})")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have been faster
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
