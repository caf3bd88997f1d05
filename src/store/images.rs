//! Images that benchd pulled: only these may ever be removed by it.

use chrono::{DateTime, Utc};

use super::codec::{Columns, size_column};
use super::error::sql;
use super::{Outcome, Store, StoreError, Write};

/// An image that benchd pulled.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PulledImage {
    /// The engine's id (`sha256:...`).
    pub image_id: String,
    /// The reference it was pulled by.
    pub reference: String,
    /// The registry's digest (`sha256:...`), when it has one.
    pub digest: Option<String>,
    /// Its size on disk, layers shared with others included.
    pub size_bytes: u64,
    /// When a pass last used it, or it was pulled.
    pub last_used_at: DateTime<Utc>,
}

impl Write {
    /// Writes down an image that was just pulled or used.
    pub async fn record_image(&mut self, image: &PulledImage) -> Result<(), StoreError> {
        let statement = "insert into images (image_id, reference, digest, size_bytes, pulled_at, last_used_at)
             values (?1, ?2, ?3, ?4, ?5, ?5)
             on conflict do update set digest = coalesce(excluded.digest, digest), size_bytes = excluded.size_bytes,
                                       last_used_at = max(last_used_at, excluded.last_used_at)";
        sqlx::query(statement)
            .bind(&image.image_id)
            .bind(&image.reference)
            .bind(&image.digest)
            .bind(size_column(image.size_bytes))
            .bind(image.last_used_at.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("record image {}", image.reference)))?;
        Ok(())
    }

    /// Notes that a pass uses an image; an image that benchd did not pull stays unknown.
    pub async fn use_image(&mut self, image_id: &str, now: DateTime<Utc>) -> Result<Outcome, StoreError> {
        let done = sqlx::query("update images set last_used_at = max(last_used_at, ?2) where image_id = ?1")
            .bind(image_id)
            .bind(now.timestamp_millis())
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("note the use of image {image_id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }

    /// Forgets an image that is gone.
    pub async fn forget_image(&mut self, image_id: &str) -> Result<Outcome, StoreError> {
        let done = sqlx::query("delete from images where image_id = ?1")
            .bind(image_id)
            .execute(&mut *self.0)
            .await
            .map_err(sql(format!("forget image {image_id}")))?;
        Ok(Outcome::of(done.rows_affected()))
    }
}

impl Store {
    /// All images that benchd pulled, the longest unused first.
    pub async fn pulled_images(&self) -> Result<Vec<PulledImage>, StoreError> {
        let rows = sqlx::query("select * from images order by last_used_at, image_id")
            .fetch_all(&self.readers)
            .await
            .map_err(sql("read the pulled images"))?;
        let image = |row| {
            let columns = Columns { table: "images", row };
            Ok(PulledImage {
                image_id: columns.plain("image_id")?,
                reference: columns.plain("reference")?,
                digest: columns.plain("digest")?,
                size_bytes: columns.number("size_bytes")?,
                last_used_at: columns.instant("last_used_at")?,
            })
        };
        rows.iter().map(image).collect()
    }
}
