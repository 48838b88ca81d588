-- Commit batches; see ingest_batch in the migrations.
select ordinal, sequence
  from ingest_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
