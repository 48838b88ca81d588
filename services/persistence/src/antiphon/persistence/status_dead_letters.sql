-- How many messages were set aside, and the newest of them.
select count(*), max(recorded_at), (array_agg(error order by id desc))[1]
  from dead_letters
