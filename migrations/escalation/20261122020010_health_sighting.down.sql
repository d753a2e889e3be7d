drop table health_sighting;
